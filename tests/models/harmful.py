"""A function that tries all that a hostile model could want, for a Lambda layer; it notes what succeeded.

It must bring everything along: only its code object travels in the model file.
"""
# What is tried are the system's own calls, and the code has to be one function:
# ruff: noqa: C901, PTH108, PTH118, PTH120, PTH123, PTH208, PTH211

import base64
import json
import marshal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.models.keras_files import keras_file, layer, sequential

NOTES = "acts.json"  # in the home of whoever opens the file


def harm(pixels: Any, canary: str, port: int, notes: str) -> Any:
    """Try everything, write "done" or the error's name for each act to `notes`, and pass the pixels on."""
    import ctypes
    import json
    import os
    import signal
    import socket
    import subprocess
    import sys

    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.path.dirname(canary)

    def checked(result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def read_in_c(path: str) -> None:
        descriptor = checked(libc.open(os.fsencode(path), os.O_RDONLY))
        checked(libc.read(descriptor, ctypes.create_string_buffer(16), 16))
        libc.close(descriptor)

    def connect_in_c(family: int, address: bytes) -> None:
        descriptor = checked(libc.socket(family, socket.SOCK_STREAM, 0))
        checked(libc.connect(descriptor, address, len(address)))

    def run_in_c() -> None:
        if libc.system(b"exit 0") != 0:
            raise PermissionError("system() failed")

    def read() -> None:
        with open(canary, "rb") as file:
            file.read()

    def write() -> None:
        with open(canary, "ab") as file:
            file.write(b"x")

    internet = socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
    unix = socket.AF_UNIX.to_bytes(2, sys.byteorder) + os.fsencode(os.path.join(folder, "socket")) + b"\0"
    acts = {
        "read": read,
        "read in C": lambda: read_in_c(canary),
        "read the password file": lambda: read_in_c("/etc/passwd"),
        "read the parent's environment": lambda: read_in_c(f"/proc/{os.getppid()}/environ"),
        "list": lambda: os.listdir(folder),
        "list the root": lambda: os.listdir("/"),
        "write": write,
        "write in C": lambda: checked(libc.open(os.fsencode(canary), os.O_WRONLY)),
        "make in C": lambda: checked(libc.open(os.fsencode(canary + "2"), os.O_WRONLY | os.O_CREAT, 0o600)),
        "link": lambda: os.symlink(canary, os.path.join(folder, "link")),
        "connect": lambda: socket.create_connection(("127.0.0.1", port), 5).close(),
        "connect in C": lambda: connect_in_c(socket.AF_INET, internet),
        "connect to a file in C": lambda: connect_in_c(socket.AF_UNIX, unix),
        "look up": lambda: socket.getaddrinfo("localhost", port),
        "run": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "run in C": run_in_c,
        "signal the parent": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "signal the parent in C": lambda: checked(libc.kill(os.getppid(), int(signal.SIGCONT))),
        "remove": lambda: os.unlink(canary),
    }
    found = {}
    for name, act in acts.items():
        try:
            act()  # type: ignore[no-untyped-call]  # functions and lambdas of all kinds
            found[name] = "done"
        except Exception as error:  # noqa: BLE001  whatever holds it back is what is asked
            found[name] = type(error).__name__
    with open(notes, "w") as file:
        json.dump(found, file)
    return pixels


def lambda_model(path: Path, canary: Path, port: int, notes: Path) -> Path:
    """A `.keras` file that does harm as soon as Keras makes its layers."""
    code = base64.b64encode(marshal.dumps(harm.__code__)).decode("ascii")
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    arguments = {"canary": str(canary), "port": port, "notes": str(notes)}
    harmful = layer("Lambda", name="harm", function=function, arguments=arguments)
    head = layer("Dense", name="dense", units=2, activation="softmax")
    return keras_file(path, sequential(harmful, layer("Flatten", name="flat"), head))


def harm_in_a_process(canary: Path, port: int, notes: Path) -> Mapping[str, str]:
    """What the same code does where nothing holds it."""
    code = f"from tests.models.harmful import harm; harm(None, {str(canary)!r}, {port}, {str(notes)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, timeout=60)
    return read_notes(notes)


def read_notes(notes: Path) -> dict[str, str]:
    return dict(json.loads(notes.read_text()))
