"""The folder that keeps small copies by the content they are of; the least recently used go when it is full."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from pathlib import Path

MAX_BYTES = 1 << 30
KEEP = 0.8  # of that, after a sweep
LOOK_EVERY = 256  # copies that are put there between two looks at the whole
USED_EVERY_S = 3600.0  # how often a copy's last use is written down


class Shelf:
    """A folder of small files named by content. Safe for many threads and processes; nothing in it is needed."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._put = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes | None:
        """What was put there under this name; None where it is not there, or not any more."""
        path = self._path(name)
        try:
            data = path.read_bytes()
            if time.time() - path.stat().st_mtime > USED_EVERY_S:
                os.utime(path)
        except OSError:
            return None
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep it; where there is no room or no right to write, it is made again the next time."""
        path = self._path(name)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # the pictures may be private
            try:
                part.write_bytes(data)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        with self._lock:
            self._put += 1
            if self._put % LOOK_EVERY != 1:
                return
        self.sweep()

    def sweep(self) -> None:
        """Remove the least recently used until the rest fits."""
        found = sorted(self._files())
        total = sum(size for _, size, _ in found)
        if total <= self.max_bytes:
            return
        for _, size, path in found:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            total -= size
            if total <= KEEP * self.max_bytes:
                return

    def _files(self) -> list[tuple[float, int, Path]]:
        """Every file by its last use: when, its size, where."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                facts = path.lstat()
                found.append((facts.st_mtime, facts.st_size, path))
        return found

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name
