# Certificates for tests of private swarms; to be sourced after pool.sh.
# SPDX-License-Identifier: LGPL-2.1-or-later

# authority NAME: NAME.ca.pem, NAME.ca.key in $LAB
authority() {
    must certtool --generate-privkey --ecc --outfile "$1.ca.key"
    printf 'cn = "%s"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n' "$1" >"$1.ca.tmpl"
    must certtool --generate-self-signed --load-privkey "$1.ca.key" --template "$1.ca.tmpl" --outfile "$1.ca.pem"
}

# certificate AUTHORITY NAME [LINE of a certtool template…]: NAME.cert, NAME.key
certificate() {
    local by=$1 name=$2 line
    shift 2
    must certtool --generate-privkey --ecc --outfile "$name.key"
    {
        printf 'cn = "%s"\ntls_www_server\ntls_www_client\nsigning_key\n' "$name"
        for line; do echo "$line"; done
        [[ "$*" == *expiration* ]] || echo 'expiration_days = 30'
    } >"$name.tmpl"
    must certtool --generate-certificate --load-privkey "$name.key" --load-ca-certificate "$by.ca.pem" \
        --load-ca-privkey "$by.ca.key" --template "$name.tmpl" --outfile "$name.cert"
}

# certificates_install HOST AUTHORITY NAME: where virttorrentd looks for them; the
# certificate is the last to be replaced
certificates_install() {
    local dir
    dir=$(host_root "$1")/etc/pki/torrentpool
    mkdir -p "$dir"
    cp "$2.ca.pem" "$dir/ca-cert.pem"
    cp "$3.key" "$dir/server-key.pem"
    chmod 0640 "$dir/server-key.pem"
    chroot "$(host_root "$1")" chgrp "$engine_user" /etc/pki/torrentpool/server-key.pem
    cp "$3.cert" "$dir/server-cert.pem.new"
    mv "$dir/server-cert.pem.new" "$dir/server-cert.pem"
}

# stock_peer HOST OPTION…: tests/lib/stock-peer there
stock_peer() {
    local host=$1
    shift
    host_exec "$host" /usr/bin/python3 "$top/tests/lib/stock-peer" "$@"
}
