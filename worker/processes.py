"""Child processes that never outlive their parent."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from models.children import die_with_parent

MISCONFIGURED = 78  # exit status: starting this program again would not help

LOG_BYTES = 5 << 20  # a log that grew beyond this is put aside when its program starts again


def start_child(
    arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None, log: Path
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own (Ctrl-C reaches only us); its output goes to the file `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            [os.fspath(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509  only system calls: no lock can be held
        )


def kill_group(process: subprocess.Popen[Any]) -> None:
    """SIGKILL to a child and all its descendants."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
