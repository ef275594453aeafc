"""Failpoints: named places where a test can make a process die, stop, wait or fail. Inert outside of tests.

They are there only where PIXMILL_FAILPOINTS names a folder when the process starts. The file `<folder>/<name>` arms the
point of that name; it says one of

    kill | stop | hold | sleep SECONDS | raise | exit STATUS

that is, SIGKILL or SIGSTOP to this process itself, a wait until somebody makes the file `<folder>/<pid>.go`, a wait of
some time, DatabaseUnavailable (at `publish.…` ConnectionError, as of a broker), or an end without any clean-up. With
`after 3` in front, the first three times that a process comes by do nothing. It happens once: whoever removes the file
does what it says, and adds a line `name action pid time` to `<folder>/fired.log` first.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from store.errors import DatabaseUnavailable

FOLDER = os.environ.get("PIXMILL_FAILPOINTS", "")
NAMES = (
    "claim.before",
    "claim.inside",  # the shard is leased, not committed
    "claim.after",  # committed, and nobody here knows yet
    "pipeline.prepare",
    "pipeline.predict",
    "slice.before",  # results in hand, on the way to the database
    "commit.fenced",  # the token was checked, the rows are not written
    "commit.inserted",  # the rows are written, not committed
    "commit.after",
    "renew.before",
    "release.before",
    "sweep.before",
    "sweep.expired",  # a lease is ended, not committed
    "finish.before",  # every row is there, the job is still open
    "publish.before",
    "publish.after",
    "accept.inside",  # a submission is written whole, not committed
    "accept.after",  # committed, and nobody was told
    "checkpoint.before",  # an epoch was told of; its checkpoint is not begun
    "checkpoint.written",  # it is on the disk; nothing points to it
    "checkpoint.after",
    "model.registered",  # the version is there; the database does not know
)


class Armed:
    """The points of one process, armed by files in a folder. Safe for its threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._left: dict[tuple[str, int], int] = {}  # by name and the file's time: how often it still does nothing

    def reach(self, name: str) -> None:
        """Do what the file says, if there is one and it is this process's turn. Raises what it is told to."""
        if name not in NAMES:
            raise ValueError(f"expected one of {', '.join(NAMES)}; got {name!r}")
        action = self._take(name)
        if action:
            self._note(name, action)
            self._act(name, action.split())

    def _take(self, name: str) -> str:
        """What is to be done now; nothing where the point is not armed, or another process was quicker."""
        path = self._folder / name
        with self._lock:
            try:
                action = path.read_text(encoding="utf-8").strip()
                if action.startswith("after "):
                    _, times, action = action.split(maxsplit=2)
                    key = (name, path.stat().st_mtime_ns)
                    self._left[key] = self._left.get(key, int(times)) - 1
                    if self._left[key] >= 0:
                        return ""
                if action:  # or its writer is not ready
                    path.unlink()
            except FileNotFoundError:
                return ""
        return action

    def _note(self, name: str, action: str) -> None:
        line = f"{name} {action.replace(' ', ':')} {os.getpid()} {time.time():.6f}\n"
        log = os.open(self._folder / "fired.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, line.encode())  # one write: lines of several processes do not mix
        os.close(log)

    def _act(self, name: str, words: list[str]) -> None:
        match words:
            case ["kill"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["stop"]:
                # To this thread: sent to the process, it may be another's, and this one would run on for a moment.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            case ["hold"]:
                gate = self._folder / f"{os.getpid()}.go"
                while not gate.exists():
                    time.sleep(0.01)
                gate.unlink()
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["raise"]:
                error = ConnectionError if name.startswith("publish.") else DatabaseUnavailable
                raise error(f"The failpoint {name} was told to fail.")
            case ["exit", status]:
                os._exit(int(status))
            case _:
                raise ValueError(
                    f"{name}: expected kill, stop, hold, sleep SECONDS, raise or exit STATUS; got {' '.join(words)}"
                )


def _nothing(name: str) -> None:
    """Do nothing."""


reach: Callable[[str], None] = Armed(Path(FOLDER)).reach if FOLDER else _nothing
