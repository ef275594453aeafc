"""Has suspects prepared by a child process, one at a time, with limits of time and memory, and gives the verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.children import CODE, KEPT
from models.images import Picture
from models.manifest import Preprocessing
from worker.memory import MIB, memory_limit, resident_bytes
from worker.reading import Location
from worker.settings import Settings
from worker.suspects.child import request_of

MODULE = "worker.suspects.child"
START_S = 60.0  # for the child to start
POLL_S = 0.05
LAST_BREATH_S = 5.0  # between the end of a child's answers and its own
STEP_S = 1.0  # a look that comes later than this was held up itself: so much counts, and no more
MAX_LINE = 1 << 16
BASE_BYTES = 256 * MIB  # beside the picture itself
BYTES_PER_PIXEL = 20  # measured: WebP takes 16, the others 3 to 12
COPIES = 3  # of the file
LEAST_BYTES = 512 * MIB  # where the worker itself has taken nearly all


class ExaminerBroken(Exception):
    """The child could not be started; no image is to blame."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a suspect: a picture, or a code and a sentence. `digest`: of its content, once it was read.

    `guilty`: it did end a process, or would have. `died`: the child ended of it, by itself.
    """

    digest: bytes | None
    picture: Picture | None = None
    code: str = ""
    message: str = ""
    guilty: bool = False
    died: bool = False


class Examiner:
    """One child at a time, started when it is needed. Use it from one thread, which outlives the child."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: _Child | None = None
        self.is_busy = False

    def examine(self, location: Location, preprocessing: Preprocessing, halted: Callable[[], bool]) -> Verdict | None:
        """Prepare one image; None when `halted` before it was done. Raises ExaminerBroken, OSError.

        A child that dies is asked twice: the first time, something else may have ended it.
        """
        request = {
            "location": request_of(location),
            "preprocessing": asdict(preprocessing),
            "max_pixels": self._settings.max_pixels,
        }
        self.is_busy = True
        try:
            verdict = self._ask(request, halted)
            if verdict is not None and verdict.died:
                verdict = self._ask(request, halted)
            return verdict
        finally:
            self.is_busy = False

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ask(self, request: dict[str, Any], halted: Callable[[], bool]) -> Verdict | None:
        if self._child is None:
            self._child = _Child(self._start())
        watch = _Clock(self._child, self._settings.item_s, halted)
        digest: bytes | None = None
        with watch:
            self._child.send(request)
            answer = self._child.receive()
            if answer is not None and "digest" in answer:
                digest = bytes.fromhex(answer["digest"])
                answer = self._child.receive()
            picture = self._child.picture(answer) if answer is not None and "shape" in answer else None
        if picture is not None:
            if watch.has_killed:
                self.close()
            return Verdict(digest, picture)
        return self._failed(answer, digest, watch)

    def _failed(self, answer: dict[str, Any] | None, digest: bytes | None, watch: _Clock) -> Verdict | None:
        if answer is not None and "code" in answer:
            code, message = str(answer["code"]), str(answer["message"])
            if code == "out_of_memory":
                self.close()  # what is left of it may be in pieces
            return Verdict(digest, None, code, message, guilty=code == "out_of_memory")
        died_of, end = self._child.end() if self._child else (0, "")
        self.close()
        if watch.halted:
            return None
        if watch.is_over:
            limit = f"Reading and decoding it alone took more than {self._settings.item_s:g} s."
            return Verdict(digest, None, "timed_out", limit, guilty=True)
        if died_of == -signal.SIGKILL:
            message = "The system ended the process that had only this image in hand, as it does when memory runs out."
            return Verdict(digest, None, "out_of_memory", message, guilty=True, died=True)
        message = f"Reading or decoding it ended the process, also when it was alone: {end}."
        return Verdict(digest, None, "worker_died", message, guilty=True, died=True)

    def _start(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "max_bytes": settings.max_file_mb * MIB,
            "cache": str(settings.cache_folder / "archives"),
            "memory_bytes": allowance(settings, resident_bytes(os.getpid()) or 0),
        }


def allowance(settings: Settings, taken: int) -> int:
    """The bytes that preparing one image may take: what the limits of size can need, if the worker has so much left."""
    needed = BASE_BYTES + BYTES_PER_PIXEL * settings.max_pixels + COPIES * settings.max_file_mb * MIB
    limit = memory_limit(settings.worker_memory_mb)
    return needed if limit is None else min(needed, max(limit - taken, LEAST_BYTES))


class _Child:
    """The process, its two pipes, and its last words."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pixmill-suspects-")
        self._log = Path(self._folder.name) / "stderr"
        paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]  # what the worker itself runs with
        environment = {
            **{key: value for key, value in os.environ.items() if key in KEPT},
            "PYTHONPATH": os.pathsep.join(paths),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                # -P: the current folder is no place to import from.
                [sys.executable, "-P", "-m", MODULE],
                cwd=self._folder.name,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        with _Clock(self, START_S, lambda: False):
            self.send(start)
            is_ready = self.receive()
        if is_ready is None:
            _, words = self.end()
            self.close()
            raise ExaminerBroken(f"the process that looks at suspicious images does not start: {words}")

    def send(self, request: dict[str, Any]) -> None:
        """What it is to do; the missing answer tells when it is gone."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                return

    def receive(self) -> dict[str, Any] | None:
        """The next line of its answer; None where it ended."""
        line = self._process.stdout.readline(MAX_LINE) if self._process.stdout else b""
        try:
            message = json.loads(line)
        except ValueError:
            return None
        return message if isinstance(message, dict) else None

    def picture(self, facts: dict[str, Any]) -> Picture | None:
        """The pixels that follow; None where it ended before all were there."""
        height, width, channels = (int(side) for side in facts["shape"])
        size = height * width * channels
        data = self._process.stdout.read(size) if self._process.stdout else b""
        if len(data) < size:
            return None
        pixels = np.frombuffer(data, np.uint8).reshape(height, width, channels)
        return Picture(pixels, int(facts["width"]), int(facts["height"]))

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """How it ended: its exit status (negative: the signal that ended it), and in words."""
        try:
            code = self._process.wait(LAST_BREATH_S)
        except subprocess.TimeoutExpired:  # it answered nonsense, and lives
            self._process.kill()
            self._process.wait()
            code = 0
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        if code < 0:
            return code, signal.Signals(-code).name
        return code, f"status {code}{f', {lines[-1][:500]}' if lines else ''}"

    def close(self) -> None:
        """End it, and let go of what belonged to it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was still to be written has no reader
        self._folder.cleanup()


class _Clock:
    """Ends the child when its time is over, or when `halted` says so. Time in which we stood still does not count."""

    def __init__(self, child: _Child, seconds: float, halted: Callable[[], bool]) -> None:
        self._child = child
        self._seconds = seconds
        self._asks = halted
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self.is_over = False
        self.halted = False

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def has_killed(self) -> bool:
        """Whether the child was ended, be it that its answer came just before."""
        return self.is_over or self.halted

    def _run(self) -> None:
        used, before = 0.0, time.monotonic()
        while not self._done.wait(POLL_S):
            now = time.monotonic()
            used, before = used + min(now - before, STEP_S), now
            self.halted = self._asks()
            self.is_over = used > self._seconds
            if self.halted or self.is_over:
                self._child.kill()
                return
