"""A process that gives its rights away and then tries things: `python confined_acts.py FENCE FOLDER PORT`.

FENCE names the only fence that is put up ("all" for all of them), so that each is seen to hold alone. Prints one JSON
object: what was tried, and "done" or the error's name.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from models import confinement


def attempt(act: Callable[[], object]) -> str:
    try:
        act()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"


LIBC = ctypes.CDLL(None, use_errno=True)  # past Python's audit hook


def in_c(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def connect_in_c(port: int) -> None:
    address = socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    in_c(LIBC.connect(LIBC.socket(socket.AF_INET, socket.SOCK_STREAM, 0), address, len(address)))


def connect_to_a_file_in_c(path: Path) -> None:
    """As a broker or a container's engine listens: no network is in the way."""
    address = socket.AF_UNIX.to_bytes(2, "little") + os.fsencode(path) + b"\0"
    in_c(LIBC.connect(LIBC.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0), address, len(address)))


def open_in_c(path: Path, flags: int) -> None:
    in_c(LIBC.open(os.fsencode(path), flags, 0o600))


def run_in_c() -> None:
    if LIBC.system(b"exit 0") != 0:
        raise PermissionError("system() failed")


def keep_only(fence: str) -> None:
    """Take the other fences down."""
    if fence not in ("all", "namespace"):
        mock.patch.object(confinement, "_leave_the_network", return_value=False).start()
    if fence not in ("all", "landlock"):
        mock.patch.object(confinement, "_landlock", return_value=False).start()
    if fence not in ("all", "calls"):
        mock.patch.object(confinement, "refuse_calls", return_value=False).start()
    if fence not in ("all", "audit"):
        mock.patch.object(sys, "addaudithook").start()


def main(fence: str, folder: Path, port: int) -> None:
    keep_only(fence)
    inside, outside = folder / "inside", folder.parent / "outside"
    (inside / "deeper").mkdir(parents=True)
    held = confinement.confine(inside, memory_bytes=4 * confinement.GIB, cpu_s=60, file_bytes=2**20)
    results = {
        "connect": attempt(lambda: socket.create_connection(("127.0.0.1", port), 5)),
        "connect in C": attempt(lambda: connect_in_c(port)),
        "connect to a file in C": attempt(lambda: connect_to_a_file_in_c(folder / "socket")),
        "look up": attempt(lambda: socket.getaddrinfo("localhost", port)),
        "write inside": attempt(lambda: (inside / "new").write_text("x")),
        "rename inside": attempt(lambda: (inside / "new").rename(inside / "deeper" / "new")),
        "write to null": attempt(lambda: Path(os.devnull).write_text("x", encoding="ascii")),
        "read inside": attempt((inside / "deeper" / "new").read_bytes),
        "read a library": attempt(lambda: Path(os.__file__).read_bytes()),
        "read outside": attempt((outside / "kept").read_bytes),
        "read outside in C": attempt(lambda: open_in_c(outside / "kept", os.O_RDONLY)),
        "write outside": attempt(lambda: (outside / "new").write_text("x")),
        "write outside in C": attempt(lambda: open_in_c(outside / "new", os.O_WRONLY | os.O_CREAT)),
        "climb out": attempt(lambda: (inside / ".." / ".." / "outside" / "new").write_text("x")),
        "remove outside": attempt((outside / "kept").unlink),
        "move outside": attempt(lambda: (inside / "deeper" / "new").rename(outside / "moved")),
        "run": attempt(lambda: subprocess.run(["true"], check=True)),
        "run in C": attempt(run_in_c),
        "signal": attempt(lambda: os.kill(os.getppid(), signal.SIGCONT)),
        "signal in C": attempt(lambda: in_c(LIBC.kill(os.getppid(), int(signal.SIGCONT)))),
        "take memory": attempt(lambda: bytearray(8 * confinement.GIB)),
    }
    core = resource.getrlimit(resource.RLIMIT_CORE)
    sys.stdout.write(json.dumps({"held": held, "core": core, "umask": os.umask(0), **results}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
