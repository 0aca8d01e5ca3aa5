#!/bin/bash
# The certificates of a private swarm: what is wrong with them is said, and they can be
# replaced while the daemon runs.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
. "$(dirname "$0")/../lib/pki.sh"
lab_enter "$@"

authority old
authority new
authority others
for host in A B; do
    certificate old $host
    certificate new $host-new
done
certificate old expired 'activation_date = "2020-01-01 00:00:00 UTC"' 'expiration_date = "2021-01-01 00:00:00 UTC"'
certificate others foreign
certificate old friend 'dns_name = "*"'
must certtool --get-dh-params --sec-param medium --outfile dh.pem

number=0
for host in A B C; do
    number=$((number + 1))
    host_start $host 10.77.0.$number
done
for host in A B; do
    libvirtd_start $host
done
pool_xml '<torrent:tls/>' >pool.xml
must virsh_on A pool-define pool.xml
must virsh_on A pool-build $pool
matches 'what the pool is defined as' '<torrent:tls/>' "$(virsh_on A pool-dumpxml $pool)"

step 'no certificates'
refused 'certificates.*ca-cert.pem.*No such file' virsh_on A pool-start $pool

# wrong PATTERN AUTHORITY NAME: what is installed is refused
wrong() {
    certificates_install A "$2" "$3"
    refused "$1" virsh_on A pool-start $pool
    is 'what listens on A' '' "$(host_exec A ss -Hltun | grep -E ':688[0-9] ')"
}
step 'one that has expired'
wrong 'refuse the certificate.*expired' old expired
step 'one of another authority'
wrong 'refuse the certificate.*issuer' old foreign
step 'a key that is not its key'
cp expired.key swapped.key
cp A.cert swapped.cert
wrong 'is not the key of' old swapped
step 'a key that everybody may read'
certificates_install A old A
key=$(host_root A)/etc/pki/torrentpool/server-key.pem
chmod 0644 "$key"
refused 'can be read by everybody.*chmod' virsh_on A pool-start $pool
step 'a key that the daemon may not read'
chmod 0600 "$key"
refused 'Permission denied' virsh_on A pool-start $pool

step 'the right ones'
chmod 0640 "$key"
must virsh_on A pool-start $pool
certificates_install B old B
pool_start_new B '<torrent:tls/>'
for name in one two; do
    random_raw $name.img 2
    publish A $name.img
    cp "$(torrent_file A $name.img)" $name.torrent
    chmod a+r $name.torrent
done
must give_xml A B one.img
wait_state B one.img seeding 30
options=(--cert "$LAB/friend.cert" --key "$LAB/friend.key" --dh "$LAB/dh.pem")

# what the daemon on HOST says
said() { grep -Eq "$2" "$LAB/$1/log/virttorrentd.log"; }

step 'replaced by wrong ones: said, and the old ones stay in force'
certificates_install A others expired
wait_for 15 said A 'engine.*would refuse' || fail 'the wrong certificate was not noticed'
must give_xml A B two.img
wait_state B two.img seeding 30

step 'replaced by those of a new authority, while the pool runs'
for host in A B; do
    certificates_install $host new $host-new
    wait_for 15 said $host 'New certificates' || fail "the new certificates on $host were not noticed"
done
sleep 2 # a torrent takes them at its next tick, of a second
random_raw three.img 2
publish A three.img
must give_xml A B three.img
wait_state B three.img seeding 30
is checksum "$(sum_of three.img)" "$(sum_of "$(in_pool B three.img)")"
mkdir none
matches 'one with a certificate of the old authority' ' down 0 .*complete no' \
    "$(stock_peer C --dir "$LAB/none" --peer 10.77.0.1:6882 --seconds 4 "${options[@]}" "$LAB/one.torrent")"

step 'masters published before are fetched by whom the new authority knows'
must virsh_on B vol-delete --pool $pool one.img
must give_xml A B one.img
wait_state B one.img seeding 30

step 'a certificate that is revoked'
printf 'crl_next_update = 30\ncrl_number = 1\n' >crl.tmpl
must certtool --generate-crl --load-ca-privkey new.ca.key --load-ca-certificate new.ca.pem \
    --load-certificate B-new.cert --template crl.tmpl --outfile "$(host_root A)/etc/pki/torrentpool/ca-crl.pem"
seen=$(grep -c 'New certificates' "$LAB/A/log/virttorrentd.log")
wait_for 15 eval '(($(grep -c "New certificates" "$LAB/A/log/virttorrentd.log") > seen))' || fail 'the list was not noticed'
sleep 2
random_raw four.img 2
publish A four.img
must give_xml A B four.img
sleep 4
in_state B four.img fetching || fail "B, whose certificate is revoked, has it: $(vol_torrent B four.img state)"

step 'a pool that becomes public publishes its masters anew'
must virsh_on A pool-destroy $pool
must virsh_on A pool-undefine $pool
pool_xml >pool.xml
must virsh_on A pool-define pool.xml
must virsh_on A pool-start $pool
wait_state A one.img seeding 20
lacks 'the metainfo' 'ssl-cert' "$(tr -d '\0' <"$(torrent_file A one.img)")"
is checksum "$(sum_of one.img)" "$(sum_of "$(in_pool A one.img)")"
