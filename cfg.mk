# Project settings of gnulib's maint.mk ("make syntax-check", part of ./check).
# SPDX-License-Identifier: LGPL-2.1-or-later

# Rules of gnulib's that do not fit here: we use GLib's gettext and string
# functions, our scripts are bash, and NEWS changes until the first release.
# Error messages are sentences that libvirt shows to its users, not ends of a
# "program: file: " line, so they may begin with a capital.
local-checks-to-skip = \
  sc_bindtextdomain \
  sc_error_message_uppercase \
  sc_file_system \
  sc_immutable_NEWS \
  sc_indent \
  sc_po_check \
  sc_prohibit_intprops_without_use \
  sc_prohibit_stat_st_blocks \
  sc_prohibit_strcmp \
  sc_prohibit_test_double_equal \
  sc_tight_scope \
  sc_unportable_grep_q

# Where sc_Wundef_boolean looks; in all files, roots of other releases in the cache
# included, if it is not told.
CONFIG_INCLUDE = ^$(srcdir)/config\.h\.in$$

exclude_file_name_regexp--sc_trailing_blank = ^src/libvirt/.*\.patch$$
# (built by scripts, with nothing of ours)
built_alone = ^tests/(mistakes|tsan-glib|lib/faults|soak/kill-at)\.c$$
exclude_file_name_regexp--sc_require_config_h = $(built_alone)
exclude_file_name_regexp--sc_require_config_h_first = $(built_alone)
# (options that they give to other programs)
exclude_file_name_regexp--sc_two_space_separator_in_usage = ^tests/(sanitize|bench/masters)\.sh$$
exclude_file_name_regexp--sc_prohibit_atoi_atof = ^tests/

# sc_po_check: C++ too.
override perl_translatable_files_list_ = \
  -e 'foreach $$file (@ARGV) { $$file =~ /\.(c|h|cpp)$$/ && -r $$file && print "$$file "; }'

# Who may know whom: see docs/architecture.rst.
sc_rooms_libtorrent:
	@prohibit='^ *# *include *[<"](libtorrent|boost)/' \
	in_vc_files='\.([ch]|cpp)$$' \
	exclude='/engine-libtorrent\.cpp:' \
	halt='only engine-libtorrent.cpp knows libtorrent' \
	  $(_sc_search_regexp)

sc_rooms_cplusplus:
	@bad=$$($(VC_LIST) | grep -E '\.(cc|cpp|cxx|hpp)$$' | grep -v 'src/torrentd/engine-libtorrent\.cpp$$'); \
	test -z "$$bad" || { echo "$$bad"; echo '$(ME): engine-libtorrent.cpp is the only C++ file' >&2; exit 1; }

sc_rooms_image:
	@prohibit='^ *# *include *[<"](gio/|torrentd|(engine|service|pool|state|conf|names|monitor|torrentd-dbus)\.h)' \
	in_vc_files='(^|/)src/image/' \
	halt='src/image knows GLib only' \
	  $(_sc_search_regexp)

sc_rooms_storage:
	@prohibit='^ *# *include *[<"](engine|engine-base|manager|service|pool|state|conf|names|monitor|metainfo|magnet)\.h' \
	in_vc_files='(^|/)src/(storage|hooks)/' \
	halt='what runs in or beside libvirt includes nothing of virttorrentd' \
	  $(_sc_search_regexp)

sc_rooms_dbus:
	@prohibit='^ *# *include *[<"]torrentd-dbus\.h' \
	in_vc_files='(^|/)src/torrentd/(pool|volume|manager|options|process|main|log|state|conf|names|monitor|engine|metainfo|magnet|hash)' \
	halt='only the service and the clients know the generated D-Bus code' \
	  $(_sc_search_regexp)

# The hook is small and starts with each guest: plain GDBus, no libvirt.
sc_rooms_hooks:
	@prohibit='^ *# *include *[<"](torrentd-dbus\.h|libvirt/|vir[a-z]+\.h)' \
	in_vc_files='(^|/)src/hooks/' \
	halt='the hook calls neither generated D-Bus code nor libvirt' \
	  $(_sc_search_regexp)

# Nothing of one machine, and no name of a package archive.
sc_no_archive_names:
	@prohibit='(deb|security|snapshot|ftp)\.([a-z.]+\.)?debian\.org|archive\.ubuntu' \
	exclude='^cfg\.mk:' \
	halt='package archives are those of the machine; name none' \
	  $(_sc_search_regexp)

sc_no_private_paths:
	@prohibit='(^|[^a-z.])/work/(main|shared)|/tmp/(lv|b-[a-z]+)\b' \
	exclude='cfg\.mk:' \
	halt='paths of one machine do not belong here' \
	  $(_sc_search_regexp)

sc_spdx:
	@missing=$$($(VC_LIST) | grep -E '\.(c|h|cpp|sh|am|mk|awk)$$|/(check|demo|bench|bootstrap|build|install-deps|make-image|make-lab|make-base|build-deb|apt-sources|dom0-init|run|places|libvirt/series|make-root|in-root|vhd-flat|virt-manager-desk)$$' | \
	  xargs grep -L 'SPDX-License-Identifier: LGPL-2\.1-or-later'); \
	test -z "$$missing" || { echo "$$missing"; echo '$(ME): no SPDX line in these' >&2; exit 1; }

sc_shell_syntax:
	@fail=0; for f in $$($(VC_LIST) | grep -E '\.sh$$|/(check|demo|bench|make-lab|make-base|make-root|in-root|libvirt/series|build-deb|dom0-init|run)$$'); do \
	  bash -n "$$f" || fail=1; done; exit $$fail

# Instead of sc_po_check, which overlooks .cpp.  The module's messages belong to
# libvirt's catalogue.
sc_po_files:
	@cd $(srcdir) && git ls-files 'src/*.c' 'src/*.cpp' | grep -v '^src/storage/' \
	  | xargs grep -El '\<N?_\((\"|$$)' | LC_ALL=C sort \
	  | diff -u --label 'files with messages' - po/POTFILES.in \
	  || { echo '$(ME): po/POTFILES.in is not up to date' >&2; exit 1; }
