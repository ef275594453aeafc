"""Why a file is not read: what the system says or what has changed, as an item's code and a person's words."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH115, PTH116

import errno
import os
import stat
from datetime import UTC, datetime

from models.errors import ImageError
from worker.sources.entry import printable

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a disk",
}
_REASONS = {
    errno.ENOENT: ("missing", "There is no file {path}, or no longer."),
    errno.ENOTDIR: ("missing", "There is no file at this path: a part of it is a file and no folder."),
    errno.ENAMETOOLONG: (
        "name_too_long",
        "A name or the whole path ({length:,} bytes) is longer than allowed.",
    ),
    errno.EACCES: ("permission", "User {user}, who runs the worker, may not read it."),
    errno.EPERM: ("permission", "User {user}, who runs the worker, may not read it."),
    errno.ELOOP: ("broken_link", "A link on its path leads round in a circle."),
}


def refuse_changed(when: str, then: int | None, now: int) -> None:
    """Raise ImageError where a size in bytes is not what it was; None was not known."""
    if then not in (None, now):
        raise ImageError("changed", f"The file changed {when}: {then:,} bytes then, {now:,} now.")


def refuse_rewritten(when: str, then: int | None, now: int, what: str = "file") -> None:
    """Raise ImageError where a modification time in ns is not what it was; None was not known."""
    if then is not None and then != now:
        raise ImageError("changed", f"The {what} was written {when}: modified {_time(then)} then, {_time(now)} now.")


def _time(ns: int) -> str:
    try:
        return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(sep=" ", timespec="microseconds")
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return f"{ns} ns"


def not_a_file(mode: int) -> ImageError:
    """The error for what is no plain file, by its mode; 0 is not known."""
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return ImageError("not_a_file", f"Expected a file, got {kind}.")


def explain(error: OSError, path: bytes) -> ImageError:
    """The item's error for what the operating system says."""
    number = error.errno or 0
    target = _link_target(path) if number in (errno.ENOENT, errno.ELOOP) else None
    if target is not None:
        fate = "round in a circle" if number == errno.ELOOP else "to nothing"
        return ImageError("broken_link", f"The link to {printable(target)} leads {fate}.")
    if number in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
        return not_a_file(_mode(path))
    code, text = _REASONS.get(number, ("io_error", "Reading failed: {reason} ({name})."))
    name = errno.errorcode.get(number, "unknown error")
    return ImageError(
        code, text.format(length=len(path), user=os.geteuid(), reason=error.strerror, name=name, path=printable(path))
    )


def _link_target(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _mode(path: bytes) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0
