"""Values of identifiers that print fmt texts leave unresolved.

The kernel replaces an enum in a print fmt by its number only where the event asks for it
(TRACE_DEFINE_ENUM). Here are those whose numbers are fixed by user space interfaces, hardware, or
have not changed since their event exists; any other identifier stays unknown.
"""

from __future__ import annotations

__all__ = ["enum_values"]

_SOFTIRQS = (
    "HI_SOFTIRQ", "TIMER_SOFTIRQ", "NET_TX_SOFTIRQ", "NET_RX_SOFTIRQ", "BLOCK_SOFTIRQ",
    "IRQ_POLL_SOFTIRQ", "TASKLET_SOFTIRQ", "SCHED_SOFTIRQ", "HRTIMER_SOFTIRQ", "RCU_SOFTIRQ",
)  # fmt: skip
_TCP_STATES = (  # include/net/tcp_states.h, from 1
    "TCP_ESTABLISHED", "TCP_SYN_SENT", "TCP_SYN_RECV", "TCP_FIN_WAIT1", "TCP_FIN_WAIT2",
    "TCP_TIME_WAIT", "TCP_CLOSE", "TCP_CLOSE_WAIT", "TCP_LAST_ACK", "TCP_LISTEN", "TCP_CLOSING",
    "TCP_NEW_SYN_RECV",
)  # fmt: skip
_HRTIMER_BITS = {"ABS": 0, "REL": 1, "PINNED": 2, "SOFT": 4, "HARD": 8}
_HRTIMER_MODES = (
    "ABS", "REL", "PINNED", "SOFT", "HARD", "ABS_PINNED", "REL_PINNED", "ABS_SOFT", "REL_SOFT",
    "ABS_PINNED_SOFT", "REL_PINNED_SOFT", "ABS_HARD", "REL_HARD", "ABS_PINNED_HARD",
    "REL_PINNED_HARD",
)  # fmt: skip
# enum inode_state_flags_enum: other numbers before I_LRU_ISOLATING came (Linux 6.11).
_INODE_STATES = {
    "I_NEW": 0, "I_SYNC": 1, "I_LRU_ISOLATING": 2, "I_DIRTY_SYNC": 4, "I_DIRTY_DATASYNC": 5,
    "I_DIRTY_PAGES": 6, "I_WILL_FREE": 7, "I_FREEING": 8, "I_CLEAR": 9, "I_REFERENCED": 10,
    "I_LINKABLE": 11, "I_DIRTY_TIME": 12, "I_WB_SWITCH": 13, "I_OVL_INUSE": 14, "I_CREATING": 15,
    "I_DONTCACHE": 16, "I_SYNC_QUEUED": 17, "I_PINNING_NETFS_WB": 18,
}  # fmt: skip
_FAULT_FLAGS = (  # include/linux/mm_types.h, one bit each
    "WRITE", "MKWRITE", "ALLOW_RETRY", "RETRY_NOWAIT", "KILLABLE", "TRIED", "USER", "REMOTE",
    "INSTRUCTION", "INTERRUPTIBLE", "UNSHARE", "ORIG_PTE_VALID", "VMA_LOCK",
)  # fmt: skip

_ENUM_VALUES: dict[str, int] = {
    **{name: number for number, name in enumerate(_SOFTIRQS)},
    **{name: number for number, name in enumerate(_TCP_STATES, 1)},
    **{
        f"HRTIMER_MODE_{mode}": sum(_HRTIMER_BITS[word] for word in mode.split("_"))
        for mode in _HRTIMER_MODES
    },
    **{f"FAULT_FLAG_{name}": 1 << bit for bit, name in enumerate(_FAULT_FLAGS)},
    "HRTIMER_NORESTART": 0, "HRTIMER_RESTART": 1,
    "IOPRIO_CLASS_NONE": 0, "IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3,
    "IOPRIO_CLASS_INVALID": 7,
    "VM_FAULT_OOM": 0x1, "VM_FAULT_SIGBUS": 0x2, "VM_FAULT_MAJOR": 0x4,
    "VM_FAULT_HWPOISON": 0x10, "VM_FAULT_HWPOISON_LARGE": 0x20, "VM_FAULT_SIGSEGV": 0x40,
    "VM_FAULT_NOPAGE": 0x100, "VM_FAULT_LOCKED": 0x200, "VM_FAULT_RETRY": 0x400,
    "VM_FAULT_FALLBACK": 0x800, "VM_FAULT_DONE_COW": 0x1000, "VM_FAULT_NEEDDSYNC": 0x2000,
    "VM_FAULT_COMPLETED": 0x4000,
    "PM_QOS_ADD_REQ": 0, "PM_QOS_UPDATE_REQ": 1, "PM_QOS_REMOVE_REQ": 2,
    "QGROUP_RESERVE": 0, "QGROUP_RELEASE": 1, "QGROUP_FREE": 2,
    "VDSO_CLOCKMODE_NONE": 0, "VDSO_CLOCKMODE_TSC": 1,
    "true": 1, "false": 0, "NULL": 0,
}  # fmt: skip


def enum_values(print_fmt: str) -> dict[str, int]:
    """Return the numbers of the identifiers whose meaning in this print fmt is certain."""
    if "I_LRU_ISOLATING" not in print_fmt:
        return _ENUM_VALUES
    return _ENUM_VALUES | {name: 1 << bit for name, bit in _INODE_STATES.items()}
