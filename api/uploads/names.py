"""What an uploaded file may be called: a relative path of plain names, on any system."""

from __future__ import annotations

import re
import unicodedata

from api.problems import Problem

MOST_BYTES, MOST_PART, MOST_PARTS = 1024, 255, 32
# Windows keeps these for devices, whatever their extension; who unpacks results there could not store them.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")


def clean_name(name: str) -> str:
    """The name, as it was sent. Raises Problem for what is no relative path of plain names."""
    reason = _wrong(name)
    if reason is None:
        return name
    raise Problem("bad-name", f"Expected a name like cats/1.jpg for an uploaded file; got {name[:100]!r}: {reason}.")


def _wrong(name: str) -> str | None:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it is no valid Unicode"
    if not 0 < size <= MOST_BYTES:
        return f"it has {size:,} bytes, and 1 to {MOST_BYTES:,} are expected"
    if name.startswith("/") or _DRIVE.match(name):
        return "it is absolute"
    if "\\" in name:
        return "it has a backslash"
    parts = name.split("/")
    if len(parts) > MOST_PARTS:
        return f"it is {len(parts):,} folders deep, and at most {MOST_PARTS} are expected"
    return next((reason for part in parts if (reason := _wrong_part(part)) is not None), None)


def _wrong_part(part: str) -> str | None:
    """What is wrong with one name of a path."""
    if part in ("", ".", ".."):
        return f"{part!r} is no name"
    if len(part.encode()) > MOST_PART:
        return f"a name in it has more than {MOST_PART} bytes"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in part):
        return "it has control characters"
    if _DEVICE.fullmatch(part.rstrip(" .")):
        return f"{part!r} is a device's name"
    return None
