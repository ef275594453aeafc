"""Has small copies rendered by confined children, one per thread, each replaced when it dies or does not answer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, Any, BinaryIO

from models.children import CODE, KEPT
from models.errors import ImageError

CHILDREN = 2
TIMEOUT_S = 20.0  # for one picture; 100 megapixels take three
WAIT_S = 15.0  # for a turn
MODULE = "worker.thumbnails.child"
NEEDED = ("PIL", "numpy", "simplejpeg")
MAX_ANSWER = 4 << 20  # bytes of a small copy; one of 512 × 512 has at most some hundred thousand
MAX_LINE = 1 << 16


class RendererBusy(Exception):
    """Every child is busy, and stayed so."""


class RendererDied(Exception):
    """The child ended without an answer, or was ended because none came."""


@dataclass(frozen=True, slots=True)
class Order:
    """One picture to be made small: its file from where it stands, `size` bytes; the copy is width × height pixels."""

    data: BinaryIO
    size: int
    width: int
    height: int
    max_pixels: int


class Renderer:
    """A few children behind a queue. Safe to use from many threads at once; starts nothing until it is asked."""

    def __init__(self, children: int = CHILDREN, *, timeout_s: float = TIMEOUT_S, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._turns = threading.BoundedSemaphore(children)
        # Threads that live as long as we do: the kernel ends a child with the thread that started it.
        self._threads = ThreadPoolExecutor(children, "thumbnails")
        self._mine = threading.local()
        self._all: set[_Child] = set()

    @staticmethod
    def missing() -> str | None:
        """A package that rendering needs and that is not installed, or None."""
        return next((name for name in NEEDED if find_spec(name) is None), None)

    def render(self, order: Order) -> bytes:
        """A WebP of the size that was ordered. Raises ImageError, RendererBusy."""
        if not self._turns.acquire(timeout=self._wait_s):
            raise RendererBusy("Every process that makes small copies is busy.")
        try:
            return self._threads.submit(self._render, order).result()
        finally:
            self._turns.release()

    def stop(self) -> None:
        """End the children; what they were at fails."""
        for child in list(self._all):
            child.end()
        self._threads.shutdown()
        for child in list(self._all):
            child.close()
        self._all.clear()

    def _render(self, order: Order) -> bytes:
        start = order.data.tell()
        child, fresh = self._child()
        try:
            return child.ask(order)
        except RendererDied as error:
            self._forget(child)
            if fresh or error.args[1:]:
                raise ImageError("worker_died", str(error.args[0])) from error
        order.data.seek(start)  # it may have been the child's age: once more, with a young one
        child, _ = self._child()
        try:
            return child.ask(order)
        except RendererDied as error:
            self._forget(child)
            raise ImageError("worker_died", str(error.args[0])) from error

    def _child(self) -> tuple[_Child, bool]:
        """This thread's child, and whether it is new."""
        child: _Child | None = getattr(self._mine, "child", None)
        if child is not None and child.is_alive:
            return child, False
        if child is not None:
            self._forget(child)
        made = self._mine.child = _Child(self._timeout_s)
        self._all.add(made)
        return made, True

    def _forget(self, child: _Child) -> None:
        self._mine.child = None
        self._all.discard(child)
        child.close()


class _Child:
    """One process and its two pipes."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="pixmill-thumbnails-")
        kept = {key: value for key, value in os.environ.items() if key in KEPT}
        self._process = subprocess.Popen(
            # -P: the current folder is no place to import from.
            [sys.executable, "-P", "-m", MODULE],
            cwd=self._folder.name,
            # One thread: a namespace can only be left by a process that has no second one.
            env={**kept, "PYTHONPATH": str(CODE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, order: Order) -> bytes:
        """Raises ImageError, RendererDied (with a second argument where it was too slow)."""
        overdue = threading.Event()
        timer = threading.Timer(self._timeout_s, self._expire, [overdue])
        timer.daemon = True
        timer.start()
        try:
            return self._converse(order)
        except (OSError, ValueError) as error:
            if overdue.is_set():
                raise RendererDied(f"Rendering it took more than {self._timeout_s:g} s.", "slow") from error
            raise RendererDied("The process that renders it was ended by the picture.") from error
        finally:
            timer.cancel()

    def _expire(self, overdue: threading.Event) -> None:
        overdue.set()
        self.end()

    def _converse(self, order: Order) -> bytes:
        requests, answers = self._pipes()
        facts = {"bytes": order.size, "width": order.width, "height": order.height, "max_pixels": order.max_pixels}
        requests.write(json.dumps(facts).encode() + b"\n")
        for block in _blocks(order.data, order.size):
            requests.write(block)
        requests.flush()
        head: dict[str, Any] = json.loads(answers.readline(MAX_LINE))
        if "code" in head:
            raise ImageError(str(head["code"]), str(head["message"]))
        size = int(head["bytes"])
        made = answers.read(size) if 0 < size <= MAX_ANSWER else b""
        if not made or len(made) < size:
            raise ValueError(f"expected an answer of {size} bytes, got {len(made)}")
        return made

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ValueError("expected a child with pipes")
        return stdin, stdout

    def end(self) -> None:
        """End the process now."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and let go of what belonged to it."""
        self.end()
        self._process.wait()
        for pipe in self._pipes():
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                pipe.close()
        self._folder.cleanup()


def _blocks(data: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        block = data.read(min(left, 1 << 20))
        if not block:
            raise ValueError(f"expected {size} bytes, {left} were missing")
        left -= len(block)
        yield block
