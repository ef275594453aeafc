"""Pictures that end whatever decodes them: a `sitecustomize.py` on PYTHONPATH breaks the decoder for marked ones.

The marks are in a comment of a PNG, so that every other program sees a picture like any other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.running import Home

MARKS = ("segfault", "hang", "hang_with_the_lock", "memory", "bug", "slow")

_SITE = """
import sys


def _break_the_decoder():
    import ctypes
    import time

    from models import images

    decode = images.decode_other

    def use_all_memory():
        held = []
        while True:
            held.append(b"x" * (16 << 20))
            time.sleep(0.001)

    def slow():
        time.sleep(0.05)

    def bug():
        raise RuntimeError("nobody thought of this")

    acts = {
        b"poison:segfault.": lambda: ctypes.string_at(0),
        b"poison:hang.": lambda: time.sleep(3600),
        b"poison:hang_with_the_lock.": lambda: ctypes.PyDLL(None).sleep(3600),
        b"poison:memory.": use_all_memory,
        b"poison:bug.": bug,
        b"poison:slow.": slow,
    }

    def decode_other(name, data, max_pixels):
        for mark, act in acts.items():
            if mark in data:
                act()
        return decode(name, data, max_pixels)

    images.decode_other = decode_other


if sys.orig_argv[2:4] in (["-m", "worker"], ["-m", "worker.suspects.child"]):
    _break_the_decoder()
"""


def poisoned(folder: Path) -> dict[str, str]:
    """The environment in which marked pictures do what they are marked with; `folder` is made for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def write_poison(file: Path, mark: str, number: int = 0) -> None:
    """A picture that is marked with one of MARKS; another `number` is another content."""
    if mark not in MARKS:
        raise ValueError(f"expected one of {MARKS}, got {mark!r}")
    comment = PngInfo()
    comment.add_text("comment", f"poison:{mark}.")
    Image.new("RGB", (8, 8), (200, number % 256, 7)).save(file, pnginfo=comment)


def takings_over(home: Home) -> int:
    """How many processes began in this home with the notes of one that had ended with images in hand."""
    return sum(_count(path.read_text(encoding="utf-8", errors="replace")) for path in home.path.glob("logs/worker-*"))


def _count(log: str) -> int:
    return log.count("the last worker here ended with")


def failures(home: Home) -> dict[str, str]:
    """The code of each failed image, by the name of its file."""
    rows: Iterable[dict[str, str]] = home.sql(
        "SELECT path, error_code FROM v_results WHERE status = 'failed' ORDER BY path"
    )
    return {os.path.basename(row["path"]): row["error_code"] for row in rows}  # noqa: PTH119  a name as it was given
