"""Watches what must not be touched: a folder (any look into it is told by the kernel) and a port (any connection)."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ALL_EVENTS = 0xFFF  # linux/inotify.h: access, modify, attributes, close, open, move, create, delete
_EVENT = struct.Struct("=iIII")


@dataclass(frozen=True, slots=True)
class Watch:
    """A folder and a port, and what happened to them."""

    folder: Path
    server: socket.socket
    _inotify: int

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def touched(self) -> list[str]:
        """The names of the folder's files that were opened, changed or removed, and connections; each is told once."""
        found = []
        while select.select([self._inotify], [], [], 0)[0]:
            block, at = os.read(self._inotify, 1 << 16), 0
            while at < len(block):
                _, mask, _, length = _EVENT.unpack_from(block, at)
                name = block[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                found.append(f"{os.fsdecode(name) or '.'} ({mask:#x})")
                at += _EVENT.size + length
        while select.select([self.server], [], [], 0)[0]:
            connection, address = self.server.accept()
            connection.close()
            found.append(f"a connection from {address}")
        return found


@contextmanager
def watched(folder: Path) -> Iterator[Watch]:
    """Watch a folder that is there, and a new port of this machine. Linux only: skips elsewhere."""
    if sys.platform != "linux":
        pytest.skip("the kernel tells of every look at a file on Linux only")
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert libc.inotify_add_watch(inotify, os.fsencode(folder), ALL_EVENTS) >= 0
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield Watch(folder, server, inotify)
    finally:
        os.close(inotify)
