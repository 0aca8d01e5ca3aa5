#!/bin/bash
# Programs in Perl (Sys::Virt) fetch, clone, read and delete.
# SPDX-License-Identifier: LGPL-2.1-or-later
. "$(dirname "$0")/../lib/pool.sh"
lab_enter "$@"

perl -MSys::Virt -e1 || fail 'Sys::Virt is missing; build-aux/install-deps installs libsys-virt-perl'
hosts_with_pool A B
random_qcow2 debian.qcow2 4 1G
publish A debian.qcow2
vol_xml A debian.qcow2 >master.xml

step 'a program'
cat >program.pl <<-'X'
	use strict;
	use warnings;
	use Sys::Virt;

	my ($name, $file) = @ARGV;
	my $text = do { local (@ARGV, $/) = $file; <> };
	Sys::Virt::Event::register_default();
	my $conn = Sys::Virt->new(uri => "qemu:///system");
	my ($complete, $timer) = (0);

	# the master's refresh event, by the event loop
	$conn->storage_pool_event_register_any(undef, Sys::Virt::StoragePool::EVENT_ID_REFRESH,
	    sub { $complete = 1 if $_[1]->get_volume_by_name("debian.qcow2")->get_xml_description =~ /state='seeding'/ });
	my $pool = $conn->get_storage_pool_by_name($name);
	my $master = $pool->create_volume($text);
	Sys::Virt::Event::add_timeout(60_000, sub { die "no refresh event\n" });
	Sys::Virt::Event::run_default() until $complete;
	die "capacity" unless $master->get_info->{capacity} == 1 << 30;

	# clones, by backing store and by copy
	sub xml {
	    my ($volume, $backing) = @_;
	    $backing = "<backingStore><path>$backing</path><format type='qcow2'/></backingStore>" if $backing;
	    return "<volume><name>$volume</name><capacity unit='GiB'>1</capacity>" .
	           "<target><format type='qcow2'/></target>" . ($backing // "") . "</volume>";
	}
	my @clones = ($pool->create_volume(xml("one.qcow2", $master->get_path)),
	              $pool->clone_volume(xml("two.qcow2"), $master));
	for my $clone (@clones) {
	    my $info = $clone->get_info;
	    die $clone->get_name . " takes $info->{allocation} bytes" if $info->{allocation} > 1 << 20;
	    die "backing" unless index($clone->get_xml_description, "<path>" . $master->get_path . "</path>") > 0;
	    die "key" unless $conn->get_storage_volume_by_key($clone->get_key)->get_name eq $clone->get_name;
	}
	my @names = sort map { $_->get_name } $pool->list_all_volumes;
	die "volumes: @names" unless "@names" eq "debian.qcow2 one.qcow2 two.qcow2";

	# a master's bytes, by a stream
	my $stream = $conn->new_stream;
	my ($bytes, $all) = ("", "");
	$master->download($stream, 0, 0);
	$all .= $bytes while $stream->recv($bytes, 65536) > 0;
	$stream->finish;
	open(my $copy, ">", "copy.qcow2") or die;
	print $copy $all;
	close($copy) or die;

	# errors
	eval { $master->delete };
	die "a master with clones was deleted" unless ref $@ && $@->message =~ /has clones/;
	$_->delete for @clones;
	$master->delete;
	die "volumes are left" if $pool->list_all_volumes;
	X
must host_exec B env --chdir="$LAB" timeout 90 perl program.pl $pool master.xml
is 'checksum of what was downloaded' "$(sum_of debian.qcow2)" "$(sum_of copy.qcow2)"
in_state A debian.qcow2 seeding || fail 'what was done on B harms A'
