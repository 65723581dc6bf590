"""Names of the flags and constants that system calls take and return (generic and x86-64 values).

The values are those of the user space interface (include/uapi), which never changes; where
Python's own modules have them they come from there only when they do not depend on the machine
that decodes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import TypeAlias

__all__ = ["argument_name", "has_names", "return_name"]

Namer: TypeAlias = Callable[[int], str]

_MAX_ERRNO = 4095
# Not in errno: what the kernel returns to itself and a tracer sees (include/linux/errno.h).
_KERNEL_ERRORS = {
    512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK", 517: "EPROBE_DEFER", 524: "ENOTSUPP",
}  # fmt: skip

_OPEN = {
    0o100: "O_CREAT", 0o200: "O_EXCL", 0o400: "O_NOCTTY", 0o1000: "O_TRUNC", 0o2000: "O_APPEND",
    0o4000: "O_NONBLOCK", 0o4010000: "O_SYNC", 0o10000: "O_DSYNC", 0o20000: "O_ASYNC",
    0o40000: "O_DIRECT", 0o100000: "O_LARGEFILE", 0o20200000: "O_TMPFILE", 0o200000: "O_DIRECTORY",
    0o400000: "O_NOFOLLOW", 0o1000000: "O_NOATIME", 0o2000000: "O_CLOEXEC", 0o10000000: "O_PATH",
}  # fmt: skip
_ACCESS_MODE = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR"}
_MOUNT = {
    0x1: "MS_RDONLY", 0x2: "MS_NOSUID", 0x4: "MS_NODEV", 0x8: "MS_NOEXEC", 0x10: "MS_SYNCHRONOUS",
    0x20: "MS_REMOUNT", 0x40: "MS_MANDLOCK", 0x80: "MS_DIRSYNC", 0x100: "MS_NOSYMFOLLOW",
    0x400: "MS_NOATIME", 0x800: "MS_NODIRATIME", 0x1000: "MS_BIND", 0x2000: "MS_MOVE",
    0x4000: "MS_REC", 0x8000: "MS_SILENT", 0x10000: "MS_POSIXACL", 0x20000: "MS_UNBINDABLE",
    0x40000: "MS_PRIVATE", 0x80000: "MS_SLAVE", 0x100000: "MS_SHARED", 0x200000: "MS_RELATIME",
    0x400000: "MS_KERNMOUNT", 0x800000: "MS_I_VERSION", 0x1000000: "MS_STRICTATIME",
    0x2000000: "MS_LAZYTIME",
}  # fmt: skip
_UMOUNT = {1: "MNT_FORCE", 2: "MNT_DETACH", 4: "MNT_EXPIRE", 8: "UMOUNT_NOFOLLOW"}
_FSMOUNT_ATTRIBUTES = {
    0x1: "MOUNT_ATTR_RDONLY", 0x2: "MOUNT_ATTR_NOSUID", 0x4: "MOUNT_ATTR_NODEV",
    0x8: "MOUNT_ATTR_NOEXEC", 0x10: "MOUNT_ATTR_NOATIME", 0x20: "MOUNT_ATTR_STRICTATIME",
    0x80: "MOUNT_ATTR_NODIRATIME", 0x100000: "MOUNT_ATTR_IDMAP",
    0x200000: "MOUNT_ATTR_NOSYMFOLLOW",
}  # fmt: skip
_MOVE_MOUNT = {
    0x1: "MOVE_MOUNT_F_SYMLINKS", 0x2: "MOVE_MOUNT_F_AUTOMOUNTS", 0x4: "MOVE_MOUNT_F_EMPTY_PATH",
    0x10: "MOVE_MOUNT_T_SYMLINKS", 0x20: "MOVE_MOUNT_T_AUTOMOUNTS", 0x40: "MOVE_MOUNT_T_EMPTY_PATH",
    0x100: "MOVE_MOUNT_SET_GROUP", 0x200: "MOVE_MOUNT_BENEATH",
}  # fmt: skip
_FSCONFIG = {
    0: "FSCONFIG_SET_FLAG", 1: "FSCONFIG_SET_STRING", 2: "FSCONFIG_SET_BINARY",
    3: "FSCONFIG_SET_PATH", 4: "FSCONFIG_SET_PATH_EMPTY", 5: "FSCONFIG_SET_FD",
    6: "FSCONFIG_CMD_CREATE", 7: "FSCONFIG_CMD_RECONFIGURE", 8: "FSCONFIG_CMD_CREATE_EXCL",
}  # fmt: skip
_OPEN_TREE = {
    0x1: "OPEN_TREE_CLONE", 0x100: "AT_SYMLINK_NOFOLLOW", 0x800: "AT_NO_AUTOMOUNT",
    0x1000: "AT_EMPTY_PATH", 0x8000: "AT_RECURSIVE", 0o2000000: "OPEN_TREE_CLOEXEC",
}  # fmt: skip
_PROTECTION = {
    1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC", 8: "PROT_SEM", 0x01000000: "PROT_GROWSDOWN",
    0x02000000: "PROT_GROWSUP",
}  # fmt: skip
_MAP = {
    0x10: "MAP_FIXED", 0x20: "MAP_ANONYMOUS", 0x40: "MAP_32BIT", 0x100: "MAP_GROWSDOWN",
    0x800: "MAP_DENYWRITE", 0x1000: "MAP_EXECUTABLE", 0x2000: "MAP_LOCKED",
    0x4000: "MAP_NORESERVE", 0x8000: "MAP_POPULATE", 0x10000: "MAP_NONBLOCK",
    0x20000: "MAP_STACK", 0x40000: "MAP_HUGETLB", 0x80000: "MAP_SYNC",
    0x100000: "MAP_FIXED_NOREPLACE",
}  # fmt: skip
_MAP_KIND = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE", 8: "MAP_DROPPABLE"}
_MREMAP = {1: "MREMAP_MAYMOVE", 2: "MREMAP_FIXED", 4: "MREMAP_DONTUNMAP"}
_MSYNC = {1: "MS_ASYNC", 2: "MS_INVALIDATE", 4: "MS_SYNC"}
_ADVICE = {
    0: "MADV_NORMAL", 1: "MADV_RANDOM", 2: "MADV_SEQUENTIAL", 3: "MADV_WILLNEED",
    4: "MADV_DONTNEED", 8: "MADV_FREE", 9: "MADV_REMOVE", 10: "MADV_DONTFORK", 11: "MADV_DOFORK",
    12: "MADV_MERGEABLE", 13: "MADV_UNMERGEABLE", 14: "MADV_HUGEPAGE", 15: "MADV_NOHUGEPAGE",
    16: "MADV_DONTDUMP", 17: "MADV_DODUMP", 18: "MADV_WIPEONFORK", 19: "MADV_KEEPONFORK",
    20: "MADV_COLD", 21: "MADV_PAGEOUT", 22: "MADV_POPULATE_READ", 23: "MADV_POPULATE_WRITE",
    24: "MADV_DONTNEED_LOCKED", 25: "MADV_COLLAPSE", 100: "MADV_HWPOISON",
    101: "MADV_SOFT_OFFLINE", 102: "MADV_GUARD_INSTALL", 103: "MADV_GUARD_REMOVE",
}  # fmt: skip
_CLONE = {
    0x80: "CLONE_NEWTIME", 0x100: "CLONE_VM", 0x200: "CLONE_FS", 0x400: "CLONE_FILES",
    0x800: "CLONE_SIGHAND", 0x1000: "CLONE_PIDFD", 0x2000: "CLONE_PTRACE", 0x4000: "CLONE_VFORK",
    0x8000: "CLONE_PARENT", 0x10000: "CLONE_THREAD", 0x20000: "CLONE_NEWNS",
    0x40000: "CLONE_SYSVSEM", 0x80000: "CLONE_SETTLS", 0x100000: "CLONE_PARENT_SETTID",
    0x200000: "CLONE_CHILD_CLEARTID", 0x400000: "CLONE_DETACHED", 0x800000: "CLONE_UNTRACED",
    0x1000000: "CLONE_CHILD_SETTID", 0x2000000: "CLONE_NEWCGROUP", 0x4000000: "CLONE_NEWUTS",
    0x8000000: "CLONE_NEWIPC", 0x10000000: "CLONE_NEWUSER", 0x20000000: "CLONE_NEWPID",
    0x40000000: "CLONE_NEWNET", 0x80000000: "CLONE_IO",
}  # fmt: skip
_SIGNALS = (
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL",
    "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD",
    "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ",
    "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
)  # fmt: skip
_SIGNAL_MASK_HOW = {0: "SIG_BLOCK", 1: "SIG_UNBLOCK", 2: "SIG_SETMASK"}
_FAMILIES = {
    0: "AF_UNSPEC", 1: "AF_UNIX", 2: "AF_INET", 3: "AF_AX25", 10: "AF_INET6", 15: "AF_KEY",
    16: "AF_NETLINK", 17: "AF_PACKET", 29: "AF_CAN", 30: "AF_TIPC", 31: "AF_BLUETOOTH",
    38: "AF_ALG", 40: "AF_VSOCK", 44: "AF_XDP", 45: "AF_MCTP",
}  # fmt: skip
_SOCKET_TYPES = {
    1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET",
    6: "SOCK_DCCP", 10: "SOCK_PACKET",
}  # fmt: skip
_SOCKET_FLAGS = {0o4000: "SOCK_NONBLOCK", 0o2000000: "SOCK_CLOEXEC"}
_MESSAGE = {
    0x1: "MSG_OOB", 0x2: "MSG_PEEK", 0x4: "MSG_DONTROUTE", 0x8: "MSG_CTRUNC", 0x20: "MSG_TRUNC",
    0x40: "MSG_DONTWAIT", 0x80: "MSG_EOR", 0x100: "MSG_WAITALL", 0x800: "MSG_CONFIRM",
    0x2000: "MSG_ERRQUEUE", 0x4000: "MSG_NOSIGNAL", 0x8000: "MSG_MORE", 0x10000: "MSG_WAITFORONE",
    0x20000000: "MSG_FASTOPEN", 0x40000000: "MSG_CMSG_CLOEXEC",
}  # fmt: skip
_SHUTDOWN = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}
_SOCKET_LEVELS = {0: "SOL_IP", 1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP", 41: "SOL_IPV6"}
_ACCESS = {1: "X_OK", 2: "W_OK", 4: "R_OK"}
_WHENCE = {0: "SEEK_SET", 1: "SEEK_CUR", 2: "SEEK_END", 3: "SEEK_DATA", 4: "SEEK_HOLE"}
_FCNTL = {
    0: "F_DUPFD", 1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 5: "F_GETLK",
    6: "F_SETLK", 7: "F_SETLKW", 8: "F_SETOWN", 9: "F_GETOWN", 10: "F_SETSIG", 11: "F_GETSIG",
    36: "F_OFD_GETLK", 37: "F_OFD_SETLK", 38: "F_OFD_SETLKW", 1024: "F_SETLEASE",
    1025: "F_GETLEASE", 1026: "F_NOTIFY", 1030: "F_DUPFD_CLOEXEC", 1031: "F_SETPIPE_SZ",
    1032: "F_GETPIPE_SZ", 1033: "F_ADD_SEALS", 1034: "F_GET_SEALS",
}  # fmt: skip
_FUTEX = {
    0: "FUTEX_WAIT", 1: "FUTEX_WAKE", 2: "FUTEX_FD", 3: "FUTEX_REQUEUE", 4: "FUTEX_CMP_REQUEUE",
    5: "FUTEX_WAKE_OP", 6: "FUTEX_LOCK_PI", 7: "FUTEX_UNLOCK_PI", 8: "FUTEX_TRYLOCK_PI",
    9: "FUTEX_WAIT_BITSET", 10: "FUTEX_WAKE_BITSET", 11: "FUTEX_WAIT_REQUEUE_PI",
    12: "FUTEX_CMP_REQUEUE_PI", 13: "FUTEX_LOCK_PI2",
}  # fmt: skip
_FUTEX_FLAGS = {128: "FUTEX_PRIVATE_FLAG", 256: "FUTEX_CLOCK_REALTIME"}
_EPOLL_CTL = {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}
_CLOCKS = {
    0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 2: "CLOCK_PROCESS_CPUTIME_ID",
    3: "CLOCK_THREAD_CPUTIME_ID", 4: "CLOCK_MONOTONIC_RAW", 5: "CLOCK_REALTIME_COARSE",
    6: "CLOCK_MONOTONIC_COARSE", 7: "CLOCK_BOOTTIME", 8: "CLOCK_REALTIME_ALARM",
    9: "CLOCK_BOOTTIME_ALARM", 11: "CLOCK_TAI",
}  # fmt: skip
_WAIT = {
    1: "WNOHANG", 2: "WUNTRACED", 4: "WEXITED", 8: "WCONTINUED", 0x1000000: "WNOWAIT",
    0x20000000: "__WNOTHREAD", 0x40000000: "__WALL", 0x80000000: "__WCLONE",
}  # fmt: skip
_AT = {
    0x100: "AT_SYMLINK_NOFOLLOW", 0x400: "AT_SYMLINK_FOLLOW", 0x800: "AT_NO_AUTOMOUNT",
    0x1000: "AT_EMPTY_PATH", 0x2000: "AT_STATX_FORCE_SYNC", 0x4000: "AT_STATX_DONT_SYNC",
    0x8000: "AT_RECURSIVE",
}  # fmt: skip
_RENAME = {1: "RENAME_NOREPLACE", 2: "RENAME_EXCHANGE", 4: "RENAME_WHITEOUT"}
_MEMFD = {
    1: "MFD_CLOEXEC", 2: "MFD_ALLOW_SEALING", 4: "MFD_HUGETLB", 8: "MFD_NOEXEC_SEAL",
    0x10: "MFD_EXEC",
}  # fmt: skip
_RANDOM = {1: "GRND_NONBLOCK", 2: "GRND_RANDOM", 4: "GRND_INSECURE"}
_DESCRIPTOR_FLAGS = {0o4000: "O_NONBLOCK", 0o40000: "O_DIRECT", 0o2000000: "O_CLOEXEC"}
_MODULE = {1: "MODULE_INIT_IGNORE_MODVERSIONS", 2: "MODULE_INIT_IGNORE_VERMAGIC",
           4: "MODULE_INIT_COMPRESSED_FILE"}  # fmt: skip
_BPF = (
    "BPF_MAP_CREATE", "BPF_MAP_LOOKUP_ELEM", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM",
    "BPF_MAP_GET_NEXT_KEY", "BPF_PROG_LOAD", "BPF_OBJ_PIN", "BPF_OBJ_GET", "BPF_PROG_ATTACH",
    "BPF_PROG_DETACH", "BPF_PROG_TEST_RUN", "BPF_PROG_GET_NEXT_ID", "BPF_MAP_GET_NEXT_ID",
    "BPF_PROG_GET_FD_BY_ID", "BPF_MAP_GET_FD_BY_ID", "BPF_OBJ_GET_INFO_BY_FD", "BPF_PROG_QUERY",
    "BPF_RAW_TRACEPOINT_OPEN", "BPF_BTF_LOAD",
)  # fmt: skip
_PTRACE = {
    0: "PTRACE_TRACEME", 1: "PTRACE_PEEKTEXT", 2: "PTRACE_PEEKDATA", 3: "PTRACE_PEEKUSER",
    4: "PTRACE_POKETEXT", 5: "PTRACE_POKEDATA", 6: "PTRACE_POKEUSER", 7: "PTRACE_CONT",
    8: "PTRACE_KILL", 9: "PTRACE_SINGLESTEP", 12: "PTRACE_GETREGS", 13: "PTRACE_SETREGS",
    16: "PTRACE_ATTACH", 17: "PTRACE_DETACH", 24: "PTRACE_SYSCALL", 0x4200: "PTRACE_SETOPTIONS",
    0x4201: "PTRACE_GETEVENTMSG", 0x4202: "PTRACE_GETSIGINFO", 0x4204: "PTRACE_GETREGSET",
    0x4206: "PTRACE_SEIZE", 0x4207: "PTRACE_INTERRUPT", 0x4208: "PTRACE_LISTEN",
}  # fmt: skip
_AT_FDCWD = 0xFFFFFF9C
_DIRECTORY_ARGUMENTS = frozenset(
    ("dfd", "olddfd", "newdfd", "from_dfd", "to_dfd", "dirfd", "fs_fd_or_dfd")
)


def _flag_names(bits: Mapping[int, str], value: int) -> str:
    """Return the names of all set bits joined by `|`, the rest in hex; "" for 0."""
    names = []
    # The widest masks first: O_SYNC and O_TMPFILE contain another flag's bit.
    for mask, name in sorted(bits.items(), key=lambda pair: -pair[0].bit_count()):
        if value & mask == mask:
            names.append((mask, name))
            value &= ~mask
    texts = [name for _, name in sorted(names)]
    if value:
        texts.append(f"{value:#x}")
    return "|".join(texts)


def _flags(bits: Mapping[int, str]) -> Namer:
    return lambda value: _flag_names(bits, value & 0xFFFFFFFF)


def _one_of(names: Mapping[int, str]) -> Namer:
    return lambda value: names.get(value & 0xFFFFFFFF, "")


def _kind_and_flags(kinds: Mapping[int, str], mask: int, bits: Mapping[int, str]) -> Namer:
    """Name a value whose low bits are a number and whose others are flags."""

    def name(value: int) -> str:
        value &= 0xFFFFFFFF
        kind = kinds.get(value & mask) or f"{value & mask:#x}"
        flags = _flag_names(bits, value & ~mask)
        return f"{kind}|{flags}" if flags else kind

    return name


def _signal(value: int) -> str:
    number = value & 0xFFFFFFFF
    if 0 < number <= len(_SIGNALS):
        return _SIGNALS[number - 1]
    return f"SIGRT_{number - 32}" if 32 <= number <= 64 else ""


def _clone(value: int) -> str:
    """Name clone's flags; the low byte is the signal sent to the parent."""
    names = [
        name for name in (_flag_names(_CLONE, value & 0xFFFFFF00), _signal(value & 0xFF)) if name
    ]
    return "|".join(names)


def _file_mode(value: int) -> str:
    return f"0{value & 0xFFFFFFFF:o}" if value else ""


_SIGNAL_CALLS = ("kill", "tkill", "tgkill", "rt_sigaction", "rt_sigqueueinfo", "pidfd_send_signal",
                 "rt_tgsigqueueinfo")  # fmt: skip
_open = _kind_and_flags(_ACCESS_MODE, 3, _OPEN)
_map = _kind_and_flags(_MAP_KIND, 0xF, _MAP)
_socket_type = _kind_and_flags(_SOCKET_TYPES, 0xF, _SOCKET_FLAGS)

_ARGUMENTS: dict[tuple[str, str], Namer] = {
    ("open", "flags"): _open, ("openat", "flags"): _open, ("open_by_handle_at", "flags"): _open,
    ("mq_open", "oflag"): _open,
    ("mount", "flags"): _flags(_MOUNT),
    ("umount", "flags"): _flags(_UMOUNT),
    ("fsopen", "flags"): _flags({1: "FSOPEN_CLOEXEC"}),
    ("fspick", "flags"): _flags({1: "FSPICK_CLOEXEC", 2: "FSPICK_SYMLINK_NOFOLLOW",
                                 4: "FSPICK_NO_AUTOMOUNT", 8: "FSPICK_EMPTY_PATH"}),
    ("fsconfig", "cmd"): _one_of(_FSCONFIG),
    ("fsmount", "flags"): _flags({1: "FSMOUNT_CLOEXEC"}),
    ("fsmount", "attr_flags"): _flags(_FSMOUNT_ATTRIBUTES),
    ("move_mount", "flags"): _flags(_MOVE_MOUNT),
    ("open_tree", "flags"): _flags(_OPEN_TREE),
    ("mount_setattr", "flags"): _flags(_AT),
    ("mmap", "prot"): _flags(_PROTECTION), ("mprotect", "prot"): _flags(_PROTECTION),
    ("pkey_mprotect", "prot"): _flags(_PROTECTION),
    ("mmap", "flags"): _map,
    ("mremap", "flags"): _flags(_MREMAP),
    ("msync", "flags"): _flags(_MSYNC),
    ("madvise", "behavior"): _one_of(_ADVICE), ("process_madvise", "behavior"): _one_of(_ADVICE),
    ("clone", "clone_flags"): _clone,
    ("unshare", "unshare_flags"): _flags(_CLONE),
    ("setns", "flags"): _flags(_CLONE), ("setns", "nstype"): _flags(_CLONE),
    **{(call, "sig"): _signal for call in _SIGNAL_CALLS},
    ("rt_sigprocmask", "how"): _one_of(_SIGNAL_MASK_HOW),
    ("socket", "family"): _one_of(_FAMILIES), ("socketpair", "family"): _one_of(_FAMILIES),
    ("socket", "type"): _socket_type, ("socketpair", "type"): _socket_type,
    ("accept4", "flags"): _flags(_SOCKET_FLAGS),
    **{(call, "flags"): _flags(_MESSAGE)
       for call in ("sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg")},
    ("shutdown", "how"): _one_of(_SHUTDOWN),
    ("setsockopt", "level"): _one_of(_SOCKET_LEVELS),
    ("getsockopt", "level"): _one_of(_SOCKET_LEVELS),
    **{(call, "mode"): _flags(_ACCESS) for call in ("access", "faccessat", "faccessat2")},
    **{(call, "mode"): _file_mode
       for call in ("open", "openat", "creat", "mkdir", "mkdirat", "mknod", "mknodat", "chmod",
                    "fchmod", "fchmodat", "fchmodat2")},
    ("umask", "mask"): _file_mode,
    ("lseek", "whence"): _one_of(_WHENCE),
    ("fcntl", "cmd"): _one_of(_FCNTL),
    ("futex", "op"): _kind_and_flags(_FUTEX, 0x7F, _FUTEX_FLAGS),
    ("epoll_ctl", "op"): _one_of(_EPOLL_CTL),
    ("epoll_create1", "flags"): _flags({0o2000000: "EPOLL_CLOEXEC"}),
    ("eventfd2", "flags"): _flags({1: "EFD_SEMAPHORE", 0o4000: "EFD_NONBLOCK",
                                   0o2000000: "EFD_CLOEXEC"}),
    **{(call, name): _one_of(_CLOCKS)
       for call in ("clock_gettime", "clock_settime", "clock_getres", "clock_nanosleep",
                    "clock_adjtime", "timer_create", "timerfd_create")
       for name in ("which_clock", "clockid")},
    ("wait4", "options"): _flags(_WAIT), ("waitid", "options"): _flags(_WAIT),
    ("unlinkat", "flag"): _flags({0x200: "AT_REMOVEDIR"}),
    **{(call, name): _flags(_AT)
       for call in ("newfstatat", "linkat", "statx", "execveat", "fchownat", "utimensat",
                    "name_to_handle_at", "fchmodat2")
       for name in ("flag", "flags")},
    ("faccessat2", "flags"): _flags({0x100: "AT_SYMLINK_NOFOLLOW", 0x200: "AT_EACCESS",
                                     0x1000: "AT_EMPTY_PATH"}),
    ("renameat2", "flags"): _flags(_RENAME),
    ("memfd_create", "flags"): _flags(_MEMFD),
    ("getrandom", "flags"): _flags(_RANDOM),
    ("pipe2", "flags"): _flags(_DESCRIPTOR_FLAGS), ("dup3", "flags"): _flags(_DESCRIPTOR_FLAGS),
    ("finit_module", "flags"): _flags(_MODULE),
    ("delete_module", "flags"): _flags({0o1000: "O_TRUNC", 0o4000: "O_NONBLOCK"}),
    ("bpf", "cmd"): _one_of(dict(enumerate(_BPF))),
    ("ptrace", "request"): _one_of(_PTRACE),
}  # fmt: skip


def argument_name(syscall: str, argument: str, value: int) -> str:
    """Return what a value of a system call's argument is called, "" when it has no name."""
    if argument in _DIRECTORY_ARGUMENTS:
        return "AT_FDCWD" if value & 0xFFFFFFFF == _AT_FDCWD else ""
    namer = _ARGUMENTS.get((syscall, argument))
    return "" if namer is None else namer(value)


def has_names(syscall: str, argument: str) -> bool:
    """Whether some values of the argument have names."""
    return argument in _DIRECTORY_ARGUMENTS or (syscall, argument) in _ARGUMENTS


def return_name(value: int) -> str:
    """Return the errno's name of a (signed) return value, "" when it is not an error."""
    if not -_MAX_ERRNO <= value < 0:
        return ""
    return errno.errorcode.get(-value) or _KERNEL_ERRORS.get(-value, "")
