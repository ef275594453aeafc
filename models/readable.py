"""What a confined process may read: its own folder, and what programs are made of; nothing of the user's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

READ, LISTED, DEVICES = "read", "listed", "devices"  # all below; names only; read and write

Readable = Mapping[Path, str]

CODE = Path(__file__).parents[1]  # a working tree, or where packages are installed
OURS = ("models", "store", "worker")  # packages of ours that a confined process imports
SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/System", "/Library/Frameworks"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/os-release"),
)
# What libraries ask of the machine: processors, memory, limits, and the process about itself.
MACHINE = (
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/proc/sys/kernel"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm"),
)
SAFE_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def readable(folder: Path) -> Readable:
    """The paths that are there, each with what may be done below it; `folder` is the process's own."""
    wanted = {
        folder: READ,
        **dict.fromkeys(map(Path, (*SYSTEM, *MACHINE)), READ),
        **dict(_python()),
        **dict.fromkeys(map(Path, SAFE_DEVICES), DEVICES),
    }
    # Not Path.exists(), which raises where a folder on the way is closed to this user.
    return {path: kind for path, kind in wanted.items() if os.access(path, os.F_OK)}


def _python() -> Iterator[tuple[Path, str]]:
    """The interpreter and its packages. A working tree holds more than packages: of it our own only."""
    for prefix in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}:
        yield Path(prefix), READ
    for entry in {*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)} - {""}:
        if Path(entry) != CODE:
            yield Path(entry), READ
    if not (CODE / "pyproject.toml").is_file():  # installed: beside our packages lie those of others
        yield CODE, READ
        return
    yield CODE, LISTED
    for package in OURS:
        yield CODE / package, READ
