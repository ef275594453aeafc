"""Takes rights away from the running process: the network, other programs, all files but a few, memory, time.

It may read what programs are made of (`models.readable`) and write in one folder. Four fences, one behind the other,
because each is missing somewhere: namespaces without a network (Linux, where users may make them), Landlock (Linux
5.19 and later, the kernel's word on files, programs, TCP and signals), a filter of system calls (Linux on x86-64 and
ARM), and a Python audit hook (everywhere, but it sees Python code only). Limits of memory, processor time and file
size hold on every POSIX system. What has been taken never comes back, so this is called early, before the process
starts a thread, and only in a process made for the purpose.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.readable import DEVICES, LISTED, READ, Readable, readable
from models.syscalls import refuse_calls

GIB = 2**30

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIGKILL = 9

# Landlock: the numbers of linux/landlock.h; the system calls have the same numbers on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER, REFER, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 13, 1 << 14
CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))  # remove and make files, folders, devices, sockets, pipes, links
BIND_OR_CONNECT_TCP = 0b11
ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
ABI_REFER, ABI_TRUNCATE, ABI_NETWORK, ABI_SCOPES = 2, 3, 4, 6

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
REFUSED_EVENTS = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.fork",
    "os.kill",
    "pty.spawn",
)
# Harmless events of those families: making a socket object, asking for the own name.
HARMLESS_EVENTS = ("socket.__new__", "socket.gethostname")
# Events whose first argument is (and whose second may be) a path that is changed.
CHANGING_EVENTS = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
)  # fmt: skip


def confine(folder: Path, *, memory_bytes: int, cpu_s: int, file_bytes: int) -> Sequence[str]:
    """Take from this process all that is not needed to compute, to load libraries, and to read and write in `folder`.

    Returns the fences that hold here: "limits" and "audit" always, "namespace", "landlock" and "calls" where the
    kernel has them. Raises RuntimeError where a thread runs already: it would stay outside.
    """
    _refuse_threads()
    fences = ["limits", "audit"]
    allowed = readable(folder)
    os.umask(0o077)
    with contextlib.suppress(ValueError):  # macOS knows this limit and takes none
        _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CPU, cpu_s)
    _limit(resource.RLIMIT_FSIZE, file_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        fences += ["namespace"] if _leave_the_network(libc) else []
        fences += ["landlock"] if _landlock(libc, folder, allowed) else []
        fences += ["calls"] if refuse_calls(libc) else []
    sys.addaudithook(_Guard(folder, allowed))
    return fences


def _refuse_threads() -> None:
    """Fences are put around the thread that calls, and the kernel makes no user namespace for one of many."""
    with contextlib.suppress(OSError):  # no /proc here
        count = len(os.listdir("/proc/self/task"))  # noqa: PTH208  names are enough
        if count > 1:
            raise RuntimeError(f"expected to be confined before a thread starts; {count} threads run")


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _leave_the_network(libc: ctypes.CDLL) -> bool:
    """Move into a network namespace of our own, with no interface up. Root needs no user namespace for that."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) == 0:
        return True
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        try:
            Path("/proc/self", name).write_text(text, encoding="ascii")
        except OSError:  # then we are "nobody" to ourselves; the kernel still knows whose files are ours
            break
    return True


def _landlock(libc: ctypes.CDLL, folder: Path, allowed: Readable) -> bool:
    """Let the kernel refuse programs, files outside of what is allowed, and TCP. False where it has no Landlock."""
    abi = libc.syscall(CREATE_RULESET, None, 0, 1)
    if abi < ABI_REFER:  # the first one forbids every rename from folder to folder, and TensorFlow needs them
        return False
    write = WRITE_FILE | CHANGE_FOLDERS | REFER | (TRUNCATE if abi >= ABI_TRUNCATE else 0)
    read = READ_FILE | READ_FOLDER
    handled = struct.pack("=Q", write | read | EXECUTE)
    if abi >= ABI_NETWORK:
        handled += struct.pack("=Q", BIND_OR_CONNECT_TCP)
    if abi >= ABI_SCOPES:
        handled += struct.pack("=Q", ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = libc.syscall(CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    device = READ_FILE | (write & (WRITE_FILE | TRUNCATE))
    _allow(libc, ruleset, folder, write | read)
    for path, kind in allowed.items():
        with contextlib.suppress(OSError):  # gone, or closed to this user: then it may not be read
            _allow(libc, ruleset, path, {READ: read, LISTED: READ_FOLDER, DEVICES: device}[kind])
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    held: bool = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return held


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> bool:
    """Add a rule; where it cannot be added, less is allowed."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= READ_FILE | WRITE_FILE | TRUNCATE  # rights on a folder's entries are refused for a file
        rule = struct.pack("=Qi", access, descriptor)
        return bool(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0) == 0)
    finally:
        os.close(descriptor)


class _Guard:
    """The audit hook: refuses what Python code may not do here."""

    def __init__(self, folder: Path, allowed: Readable) -> None:
        self.folder = os.path.realpath(folder)
        files = [os.path.realpath(path) for path, kind in allowed.items() if kind != LISTED]
        self.files = frozenset(files)
        self.below = tuple(path.rstrip(os.sep) + os.sep for path in (self.folder, *files))

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(REFUSED_EVENTS) and event not in HARMLESS_EVENTS:
            raise PermissionError(f"refused while a model file is open: {event}")
        if event == "open":
            (self._check if self._writes(*arguments) else self._check_read)(event, arguments[0])
        elif event in CHANGING_EVENTS:
            for argument in arguments[:2]:
                self._check(event, argument)

    def _writes(self, _path: Any, _mode: Any, flags: Any) -> bool:
        return isinstance(flags, int) and bool(flags & WRITING)

    def _check(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # an open descriptor, or a mode
        full = os.path.realpath(os.fsdecode(path))
        if full != self.folder and not full.startswith((self.folder + os.sep, "/dev/null")):
            raise PermissionError(f"refused while a model file is open: {event} of {full}")

    def _check_read(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        full = os.path.realpath(os.fsdecode(path))
        if full not in self.files and not full.startswith(self.below):
            raise PermissionError(f"refused while a model file is open: {event} of {full}")
