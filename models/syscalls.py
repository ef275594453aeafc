"""A filter in the kernel for the system calls that computing never needs: sockets, programs, other processes.

Unlike the audit hook it also holds against C code, unlike a network namespace it needs no privilege, and unlike
Landlock it knows of sockets that are files. Numbers: asm/unistd_64.h and asm-generic/unistd.h; BPF: linux/filter.h,
linux/seccomp.h.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Sequence

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
FILTER_MODE = 2
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | 1  # 1 is EPERM
X32 = 0x40000000  # the second numbering of x86-64: refused as a whole

# By the kernel's names: what is refused. Numbers of x86-64 and of ARM.
_REFUSED = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "io_uring_setup": (425, 425),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH number


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_calls(libc: ctypes.CDLL) -> bool:
    """Have them answered with EPERM in this thread and all that it starts; False where that cannot be done here."""
    known = _MACHINES.get(platform.machine())
    if known is None:
        return False
    column, architecture = known
    code = b"".join(_filter(architecture, [numbers[column] for numbers in _REFUSED.values()]))
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(held))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.byref(program), 0, 0) == 0)


def _filter(architecture: int, refused: Sequence[int]) -> list[bytes]:
    """Instructions (code, jump if true, jump if false, value); jumps are counted from the next instruction."""
    count = len(refused)
    return [
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, ARCHITECTURE_AT),
            (EQUAL, 0, count + 3, architecture),
            (LOAD, 0, 0, NUMBER_AT),
            (AT_LEAST, count + 1, 0, X32),
            *((EQUAL, count - at, 0, number) for at, number in enumerate(refused)),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, REFUSE),
        )
    ]
