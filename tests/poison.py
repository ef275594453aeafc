"""Pictures that end whatever decodes them, or the model: a `sitecustomize.py` on PYTHONPATH breaks it for marked ones.

The decoder's marks are in a comment of a PNG, so that every other program sees a picture like any other; the model's
are colours, as it sees nothing else. Every process of a worker notes its start, so that restarts can be counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.running import Home

MARKS = ("segfault", "hang", "hang_with_the_lock", "memory", "bug", "slow")
COLOURS = {"crash": (255, 0, 1), "hang": (255, 0, 2)}  # of pictures that the model does not survive
STARTS = "starts"

_SITE = """
import os
import sys

STARTS = os.path.join(os.path.dirname(__file__), "starts")


def _note_starts():
    parent = os.getpid()

    def note_child():
        if os.getppid() == parent:
            with open(STARTS, "a") as file:
                file.write("child\\n")

    os.register_at_fork(after_in_child=note_child)


def _hurry():
    # The waits between attempts, and between deaths: a test is not to sit through them.
    from store import sweep
    from worker import family

    for module in (sweep, family):
        module.BACKOFF_S = tuple(min(wait, 0.2) for wait in module.BACKOFF_S)


def _break_the_model():
    import ctypes
    import time

    from models.engines.fake import FakeEngine

    predict = FakeEngine.predict

    def hang():  # in turn with and without the interpreter's lock: a device call may do either
        with open(STARTS) as file:
            (ctypes.PyDLL(None).sleep if file.read().count("child") % 2 else time.sleep)(3600)

    acts = {(255, 0, 1): lambda: ctypes.string_at(0), (255, 0, 2): hang}

    def deadly(self, batch):
        for colour, act in acts.items():
            if (batch == colour).all(axis=(1, 2, 3)).any():
                act()
        return predict(self, batch)

    FakeEngine.predict = deadly


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
if sys.orig_argv[2:4] == ["-m", "worker"]:
    _note_starts()
    _break_the_model()
if sys.orig_argv[2:4] in (["-m", "worker"], ["-m", "cli"]) and "POISON_HURRY" in os.environ:
    _hurry()
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


def write_deadly(file: Path, mark: str) -> None:
    """A picture on which the model, not the decoder, does what one of COLOURS stands for."""
    Image.new("RGB", (8, 8), COLOURS[mark]).save(file)


def restarts(folder: Path) -> int:
    """How many processes of one worker began after its first, where `poisoned(folder)` was used: whoever started them.

    Counted are those that do the work.
    """
    return (folder / STARTS).read_text(encoding="utf-8").splitlines().count("child") - 1


def log(home: Home) -> str:
    """All that the workers wrote."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(home.path.glob("logs/worker-*.log")))


def parents_replaced(home: Home) -> int:
    """How many parents ended because Celery's pool was late to replace a child; each may take a new one with it."""
    return log(home).count("is dead and was not replaced for")


def failures(home: Home) -> dict[str, str]:
    """The code of each failed image, by the name of its file."""
    rows: Iterable[dict[str, str]] = home.sql(
        "SELECT path, error_code FROM v_results WHERE status = 'failed' ORDER BY path"
    )
    return {os.path.basename(row["path"]): row["error_code"] for row in rows}  # noqa: PTH119  a name as it was given
