"""What processes did, as the kernel saw it: files, programs and sockets out of `strace`, where that is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CALLS = "%file,%network,%process"
_LINE = re.compile(r"^(?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+|\?)(?:<(?P<place>[^>]*)>)?")
_STRING = re.compile(r'(?:<(?P<folder>[^<>"]*)>, )?"(?P<text>(?:[^"\\]|\\.)*)"')  # with the folder that it starts from
_OPENS = ("open", "openat", "openat2", "creat")
_CHANGES = (
    *("unlink", "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "link", "linkat"),
    *("symlink", "symlinkat", "truncate", "mknod", "mknodat", "chmod", "fchmodat", "chown", "fchownat"),
)
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND")


@dataclass(frozen=True, slots=True)
class Act:
    """Something that succeeded. kind: "read", "write", "run", "connect". what: the path, the program, the address.

    A file that was opened has the path by which the kernel knows it, also where the program said another. One that was
    changed has an absolute path where strace tells the folder that the program's own starts from.
    """

    kind: str
    what: str


@cache
def can_trace() -> bool:
    """Whether strace is here and may watch."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode == 0
    )


def traced(prefix: Path) -> list[str]:
    """What to put before a command, so that each of its processes leaves a file `prefix.PID`."""
    return ["strace", "-ff", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(prefix)]


def acts_of(prefix: Path, program: str) -> tuple[Sequence[Act], Sequence[Act]]:
    """What all processes did but those that ran a program with this word in its command line; and what those did."""
    files = {int(path.name.rpartition(".")[2]): path.read_text() for path in prefix.parent.glob(f"{prefix.name}.*")}
    inside = {
        pid for pid, text in files.items() if any(program in line for line in text.splitlines() if "execve(" in line)
    }
    while more := {child for pid in inside for child in _children(files.get(pid, ""))} - inside:
        inside |= more
    outside = [act for pid, text in files.items() if pid not in inside for act in _acts(text)]
    return outside, [act for pid in inside if pid in files for act in _acts(files[pid])]


def _children(text: str) -> Iterator[int]:
    for found in re.finditer(r"^(?:clone|clone3|fork|vfork)\(.*= (\d+)", text, re.MULTILINE):
        yield int(found[1])


def _acts(text: str) -> Iterator[Act]:
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None or found["result"].startswith(("-", "?")):
            continue
        call, arguments = found["call"], found["arguments"]
        paths = [_whole(path["folder"], path["text"]) for path in _STRING.finditer(arguments)]
        if call in _OPENS and paths:
            yield Act("write" if _WRITING.search(arguments) else "read", found["place"] or paths[0])
        elif call in _CHANGES:
            yield from (Act("write", path) for path in paths)
        elif call in ("execve", "execveat"):
            yield Act("run", " ".join(paths[1:]))
        elif call in ("connect", "bind", "sendto", "sendmsg", "accept4", "listen"):
            yield Act("connect", f"{call} {arguments}")


def _whole(folder: str | None, text: str) -> str:
    path = re.sub(r"\\(.)", r"\1", text)
    return str(Path(folder or "", path))
