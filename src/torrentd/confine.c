/*
 * confine.c: system calls that this program never needs
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where systemd starts virttorrentd its unit has a filter with a list of what is allowed.  In a
 * session, in a container, or started by libvirtd there is none, and what an attacker who
 * has taken the engine wants next is a shell.  This is a list of what is forbidden: it need not
 * follow what each version of the C library calls for its own purposes.
 *
 * Nothing of the kind can be done for the file system: Landlock only ever takes away, and
 * pools that are opened later would lie in what was taken.
 */

#include <config.h>

#include "confine.h"

#include <errno.h>
#include <gio/gio.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "i18n.h"

#if defined __x86_64__ && !defined __ILP32__
# define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
# define ARCH AUDIT_ARCH_AARCH64
#elif defined __riscv && __riscv_xlen == 64
# define ARCH AUDIT_ARCH_RISCV64
#elif defined __s390x__
# define ARCH AUDIT_ARCH_S390X
#elif defined __powerpc64__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
# define ARCH AUDIT_ARCH_PPC64LE
#endif

/* x86-64 has a second set of numbers from here on (x32). */
#define OTHER_SET 0x40000000

static const guint32 forbidden[] = {
    /* another program, another process */
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    SYS_pidfd_getfd,
    /* another view of the file system */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_open_tree,
    SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr,
    SYS_open_by_handle_at, SYS_mknodat, SYS_swapon, SYS_swapoff, SYS_quotactl,
    /* the kernel */
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_syslog, SYS_acct, SYS_personality,
    SYS_keyctl, SYS_add_key, SYS_request_key,
    /* the machine */
    SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname,
    SYS_setdomainname,
#ifdef SYS_mknod
    SYS_mknod,
#endif
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_iopl
    SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
};

#ifdef ARCH

static guint
virTorrentConfineCompile(struct sock_filter *program)
{
    const guint32 deny = SECCOMP_RET_ERRNO | EPERM;
    const guint n = G_N_ELEMENTS(forbidden);
    guint at = 0;
    guint i;

    program[at++] = (struct sock_filter)
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    program[at++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, n + 3);
    program[at++] = (struct sock_filter)
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    program[at++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, OTHER_SET, n + 1, 0);
    for (i = 0; i < n; i++)
        program[at++] = (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden[i], n - i, 0);
    program[at++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    program[at++] = (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, deny);
    return at;
}

gboolean
virTorrentConfineCalls(GError **error)
{
    struct sock_filter filter[G_N_ELEMENTS(forbidden) + 6];
    struct sock_fprog program = { virTorrentConfineCompile(filter), filter };

    G_STATIC_ASSERT(G_N_ELEMENTS(forbidden) < 250);  /* a jump's reach */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG,
                &program) != 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    _("system calls cannot be forbidden: %s"), g_strerror(errno));
        return FALSE;
    }
    return TRUE;
}

#else

gboolean
virTorrentConfineCalls(GError **error)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                        _("system calls cannot be forbidden: the architecture is not known"));
    return FALSE;
}

#endif
