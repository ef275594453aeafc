"""Exclusive locks on files: the kernel frees them when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock that one process at a time can hold; its file holds the owner's process id, for people."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._handle is not None

    def acquire(self) -> bool:
        """Take the lock without waiting; False if another process has it. Raises OSError."""
        if self._handle is not None:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        if os.access(self.path, os.W_OK):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        return True

    def _open(self) -> int:
        """The lock's file, made if need be; one that another user made is opened for reading, which is enough."""
        flags = os.O_CLOEXEC | os.O_NOFOLLOW  # never through a link that somebody put into a shared folder
        try:
            return os.open(self.path, flags | os.O_RDWR | os.O_CREAT, 0o644)
        except PermissionError:
            return os.open(self.path, flags | os.O_RDONLY)

    def holder(self) -> int | None:
        """The process that holds the lock, 0 where it cannot be known which; None where it is free. Takes nothing."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError:
            return 0
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(handle, 20, 0).strip()
            return int(text) if text.isdigit() else 0
        else:
            return None
        finally:
            os.close(handle)

    def release(self) -> None:
        """Let the lock go, if it is held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
