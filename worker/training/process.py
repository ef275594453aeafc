"""The trainer as a child process: started, spoken to in JSON lines, and never outliving us.

Both ways one JSON object a line. To the child: the request first, then {"wanted": "pause" | "stop"}. From the child:
{"kind": …} with what belongs to it (worker.training.messages), the last one "answer" or "error".
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from models.children import CODE, die_with_parent, quiet_keras
from worker.processes import LOG_BYTES, kill_group

TAIL_BYTES = 4096
MODULE = "worker.training.trainer"
# A trainer needs devices and caches, but neither the database nor the broker, whose URLs may hold passwords.
WITHHELD = "PIXMILL_"

Message = dict[str, Any]


class TrainerProcess:
    """One trainer. `log` takes what libraries print."""

    def __init__(self, request: Mapping[str, Any], log: Path, *, on_gpu: bool) -> None:
        """Start it with a request. Raises OSError."""
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            self._began = output.tell()
            self._process = self._start(output, on_gpu=on_gpu)
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="trainer-messages", daemon=True)
        self._reader.start()
        self.tell(request)

    def _start(self, log: IO[bytes], *, on_gpu: bool) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(WITHHELD)}
        quiet = quiet_keras()
        if on_gpu:
            del quiet["CUDA_VISIBLE_DEVICES"]  # the supervisor pinned it
        home = {name: os.environ[name] for name in ("PIXMILL_HOME", "PIXMILL_FAILPOINTS") if name in os.environ}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            env={**environment, **quiet, **home, "PYTHONPATH": str(CODE), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  only a system call: no lock can be held
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def next(self, timeout_s: float) -> Message | None:
        """The next message, or None where none came in that time, or none will come any more (`is_over`)."""
        try:
            return self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None

    @property
    def is_over(self) -> bool:
        """The child has ended and everything that it said was taken."""
        return not self._reader.is_alive() and self._messages.empty()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send one message; a child that is gone hears nothing."""
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                stdin.write(json.dumps(message) + "\n")
                stdin.flush()

    def end(self) -> None:
        """Kill it with all its children, if it still runs."""
        kill_group(self._process)
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended it: nothing says that the next one will end so too."""
        return self._process.wait() < 0

    def last_words(self) -> str:
        """How it ended, with the end of what it printed; for a child that gave no answer."""
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._began, size - TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace").strip()
        said = tail.splitlines()[-1] if tail else "it said nothing"
        return f"the trainer {how} without an answer; its last words: {said} (log: {self._log})"

    def _read(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        for line in stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a half line of a child that was killed while writing
            if isinstance(message, dict):
                self._messages.put(message)
