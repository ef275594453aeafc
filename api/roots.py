"""The folders whose files the API may read for its callers, and the only two ways in: check a path, open a file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from api.problems import Problem

MOST_BYTES = 4096  # of a path, the system's own limit
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


class Roots:
    """Allowed folders. `private` (Pixmill's own home) is never read by naming it; `uploads` only by `open`."""

    def __init__(self, folders: Iterable[Path], *, private: Path | None = None, uploads: Path | None = None) -> None:
        """Resolve the folders once. Raises OSError where one is not there."""
        self._given = tuple(os.fsencode(os.path.abspath(folder)) for folder in folders)  # noqa: PTH100  links stay
        self.folders: tuple[bytes, ...] = tuple(os.path.realpath(folder, strict=True) for folder in self._given)
        self._private = os.path.realpath(os.fsencode(private)) if private else None
        self._uploads = os.path.realpath(os.fsencode(uploads)) if uploads else None

    def check(self, path: str) -> bytes:
        """The real path of something that a caller named. Raises Problem.

        Of what lies outside nothing is revealed, not even whether it is there.
        """
        name = _encoded(path)
        if not _is_plain(name) or not self._is_named_below(name):
            raise _outside(path)
        try:
            real = os.path.realpath(name, strict=True)
        except OSError as error:
            raise _refused(error, path) from error
        if self.root_of(real) is None:
            raise _outside(path)
        return real

    def place(self, path: str) -> bytes:
        """The real path of a file that a caller named, be there one or not; a link in its place stays. Raises Problem.

        Of what lies outside nothing is revealed, not even whether it is there.
        """
        name = _encoded(path)
        if not _is_plain(name) or not self._is_named_below(name):
            raise _outside(path)
        folder, last = os.path.split(os.path.normpath(name))
        real = os.path.join(os.path.realpath(folder), last)  # noqa: PTH118
        if self.root_of(real) is None:
            raise _outside(path)
        return real

    def root_of(self, real: bytes) -> bytes | None:
        """The allowed root that a real path lies in, the innermost; None where it lies in none.

        Pixmill's home lies in none, unless a root inside it was allowed on purpose.
        """
        found = max((root for root in self.folders if _contains(root, real)), key=len, default=None)
        own = self._private is not None and _contains(self._private, real)
        return None if found is not None and own and len(found) <= len(self._private or b"") else found

    def open(self, root: bytes, relative: bytes) -> int:
        """A file descriptor of a regular file of an accepted job, checked again now. Raises Problem.

        `root` is the job's, `relative` the item's path. Links that were there when the path was resolved may lead to
        another place below a root; no link that appears afterwards is followed. Nothing that could block is waited for.
        """
        shown = relative.decode("utf-8", "backslashreplace")
        if b"\0" in root + relative:
            raise _outside(shown)
        try:
            # Joined as the kernel would: an absolute path stands for itself.
            real = os.path.realpath(relative if relative.startswith(b"/") else root + b"/" + relative, strict=True)
            return self._open_real(real, shown)
        except OSError as error:
            raise _gone(error, shown) from error

    def _is_named_below(self, name: bytes) -> bool:
        """Whether a path lies below a root as it was given or as it is: decided by its letters alone."""
        tidy = os.path.normpath(b"/" + name.lstrip(b"/"))
        return any(_contains(folder, tidy) for folder in (*self._given, *self.folders))

    def _open_real(self, real: bytes, shown: str) -> int:
        base = self._uploads if self._uploads and _contains(self._uploads, real) else self.root_of(real)
        if base is None or base == real:
            raise _outside(shown)
        handle = _open_below(base, os.path.relpath(real, base).split(b"/"))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise Problem("file-missing", f"Expected a file at {shown!r}, got something else.")
        return handle


def _open_below(base: bytes, parts: list[bytes]) -> int:
    """Walk down from a folder, one name at a time, through no link."""
    folder = os.open(base, _FOLDER & ~os.O_NOFOLLOW)
    try:
        for name in parts[:-1]:
            below = os.open(name, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _encoded(path: str) -> bytes:
    try:
        name = path.encode()
    except UnicodeEncodeError as error:
        raise _outside(path) from error
    if not name or b"\0" in name or len(name) > MOST_BYTES:
        raise _outside(path)
    return name


def _is_plain(name: bytes) -> bool:
    return name.startswith(b"/") and b".." not in name.split(b"/")


def _contains(folder: bytes, path: bytes) -> bool:
    return os.path.commonpath([folder, path]) == folder


def _outside(path: str) -> Problem:
    return Problem(
        "root-not-allowed",
        f"Expected an absolute path, without `..`, below one of this server's roots; got {_shown(path)}.",
    )


def _refused(error: OSError, path: str) -> Problem:
    if error.errno == errno.ELOOP:
        return _outside(path)
    if error.errno in _ABSENT:
        return Problem("no-such-path", f"Expected a file or folder at {_shown(path)}, but there is none.")
    return Problem("unreadable-path", f"Expected to read {_shown(path)}, got: {error.strerror}.")


def _gone(error: OSError, shown: str) -> Problem:
    """What became of an accepted file: a link where a folder was is a change that nobody made innocently."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return Problem("changed", f"{_shown(shown)} is not what it was when the job was accepted.")
    if error.errno in _ABSENT:
        return Problem("file-missing", f"Expected a file at {_shown(shown)}, but there is none any more.")
    return Problem("file-missing", f"Expected to read {_shown(shown)}, got: {error.strerror}.")


def _shown(path: str) -> str:
    return repr(path if len(path) <= 200 else path[:200] + "…")
