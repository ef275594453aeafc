"""Starts one of our modules as a child process, hands it a request, and brings back its answer.

The child reads one JSON object from its standard input and writes JSON lines to its standard output: {"progress":
text}, any number, then {"answer": {…}} or {"error": {"kind": …, "message": …}}. Everything that libraries print goes
to standard error, whose end is repeated when the child dies without an answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from models.errors import EngineError, HubUnreachable, InvalidModel, ModelError, ModelRefused

Progress = Callable[[str], None]
CODE = Path(__file__).parents[1]  # what the child may import beside the installed packages: ourselves
TAIL_LINES = 12
MAX_LINE = 2**24  # characters of one message; the longest has a few thousand
KINDS = {kind.__name__: kind for kind in (InvalidModel, ModelRefused, HubUnreachable, EngineError)}

# What a child may know of our environment: where programs and libraries are, and nothing of databases, brokers and
# tokens.
KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "TZ",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
KEPT_PREFIXES = ("OMP_", "KMP_", "DYLD_")

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Child:
    """How to start a child: `python -P -m module` in `folder`, with `environment` only, killed after `timeout_s`."""

    module: str
    folder: Path
    environment: Mapping[str, str]
    timeout_s: float

    def ask(self, request: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """Send the request and wait for the answer.

        Raises the child's ModelError, or InvalidModel where it died without a word.
        """
        with tempfile.TemporaryFile() as log, self._start(log) as process:
            timer = threading.Timer(self.timeout_s, _kill, [process])
            timer.start()
            try:
                message = _converse(process, request, progress)
                if message is None:
                    self._died(process.wait(), log)
            finally:
                # The work is done, or given up: nothing of it may go on, not even what the child has started.
                _kill(process)
                timer.cancel()
        if "error" in message:
            raise KINDS.get(message["error"].get("kind"), ModelError)(message["error"].get("message"))
        answer: dict[str, Any] = message["answer"]
        return answer

    def _start(self, log: IO[bytes]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # -P: the current folder is no place to import from. A session of its own, so that all of it can be killed.
            [sys.executable, "-P", "-m", self.module],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(CODE), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  only a system call: no lock can be held
        )

    def _died(self, code: int, log: IO[bytes]) -> NoReturn:
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        tail = "\n".join(lines[-TAIL_LINES:])
        words = f" Its last words:\n{tail}" if tail else ""
        raise InvalidModel(f"{self.module} {how} without an answer (it has {self.timeout_s:.0f} s).{words}")


def die_with_parent(parent: int | None = None) -> None:
    """Ask for SIGKILL when the thread that started this process ends. For the child, first of all; Linux only.

    `parent`: its process id. Where that one has ended already, and nobody would send the signal, the end is now.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os._exit(1)


def bare_environment(home: Path) -> dict[str, str]:
    """An environment without secrets, whose home, caches and temporary files are in `home`."""
    kept = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(KEPT_PREFIXES)}
    return {**kept, **quiet_keras(), "HOME": str(home), "TMPDIR": str(home), "KERAS_HOME": str(home / "keras")}


def quiet_keras() -> dict[str, str]:
    """TensorFlow on the processor, without its greetings: opening, checking and converting need no accelerator."""
    return {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def answer_with(work: Callable[[Mapping[str, Any], Progress], Mapping[str, Any]]) -> None:
    """The child's side: read the request, do the work, write the answer. A ModelError is the parent's to raise."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def say(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    request = json.loads(sys.stdin.readline())
    try:
        answer = work(request, lambda text: say({"progress": text}))
    except ModelError as error:
        say({"error": {"kind": type(error).__name__, "message": str(error)}})
    else:
        say({"answer": answer})


def _converse(
    process: subprocess.Popen[str], request: Mapping[str, Any], progress: Progress | None
) -> dict[str, Any] | None:
    """Send the request, pass on the progress, return the last message; None where the child ended without one."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise ValueError("expected a child with pipes")
    try:
        stdin.write(json.dumps(request) + "\n")
        stdin.close()
    except BrokenPipeError:
        return None
    for line in iter(lambda: stdout.readline(MAX_LINE), ""):
        message = _parsed(line)
        if "progress" not in message:
            return message
        if progress is not None:
            progress(str(message["progress"]))
    return None


def _parsed(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if isinstance(message, dict) and {"progress", "answer", "error"} & set(message):
        return message
    raise InvalidModel(f"Expected a JSON message from the child process; got {line[:80]!r}.")


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
