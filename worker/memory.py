"""How much memory there is for us: the machine's, or what a control group (a container, a service) leaves of it."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

SHARE = 0.8  # of all memory, for one worker, where nothing else is set
MIB = 1 << 20


def memory_limit(worker_memory_mb: int) -> int | None:
    """The bytes that a worker may use: as set, or SHARE of all there is; None where that cannot be known."""
    if worker_memory_mb:
        return worker_memory_mb * MIB
    total = total_bytes()
    return None if total is None else int(total * SHARE)


def total_bytes(root: Path = Path("/")) -> int | None:
    """The memory of this machine or the least that a control group above us allows. None where neither says."""
    limits = [limit for limit in (*_group_limits(root), _machine_bytes(root)) if limit is not None]
    return min(limits, default=None)


def resident_bytes(pid: int, root: Path = Path("/")) -> int | None:
    """What a process has in memory; None where it is gone, or where the system does not say (macOS)."""
    pages = _statm(pid, root)
    return pages[1] * resource.getpagesize() if pages else None


def address_space_bytes(root: Path = Path("/")) -> int | None:
    """The address space that this process has taken so far; None where the system does not say."""
    pages = _statm(os.getpid(), root)
    return pages[0] * resource.getpagesize() if pages else None


def be_ended_first(score: int) -> None:
    """Have the kernel end this process before others when memory runs out: 0 to 1000, the last one for first of all."""
    with suppress(OSError):  # not on macOS
        Path("/proc/self/oom_score_adj").write_text(str(score), encoding="ascii")


def give_back() -> None:
    """Hand the system what this process does not need any more, after work that took much and is rare.

    Drawings hold themselves in circles, which Python looks for seldom once it is large; and glibc keeps what was freed.
    """
    gc.collect()
    with suppress(AttributeError):  # other systems' libraries give it back by themselves
        ctypes.CDLL(None).malloc_trim(0)


def _statm(pid: int, root: Path) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(word) for word in (root / "proc" / str(pid) / "statm").read_bytes().split()]
    return []


def _machine_bytes(root: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    with suppress(ValueError, OSError):  # macOS has no /proc
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _group_limits(root: Path) -> Iterator[int]:
    """What each control group from ours upwards allows; version 2 says "max", version 1 a huge number, for no limit."""
    for folder, name in _groups(root):
        with suppress(OSError, ValueError):  # in a container, the groups above are not to be seen
            yield int((folder / name).read_text(encoding="ascii"))


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    lines = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        yield from ((mount / level, name) for level in (inside, *inside.parents))
