"""A real, small file system that a test can fill: a tmpfs in a namespace of its own, gone with the test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.running import Home

FILLER = "filler"
ASK = """import json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1], uri=True).execute(sys.argv[2])
print(json.dumps([dict(zip((column[0] for column in rows.description), row)) for row in rows]))"""


@dataclass
class SmallHome(Home):
    """A home on a disk of its own; commands run where that is mounted, and `path` is what they call it."""

    holder: int = 0  # the process that keeps the namespace

    @property
    def seen(self) -> Path:
        """The home's folder as this process sees it."""
        return Path(f"/proc/{self.holder}/root{self.path}")

    def command(self, *arguments: object) -> list[str]:
        """The command line as a list of words, in the namespace."""
        return [*self._inside, f"--wd={self.path.parent}", *super().command(*arguments)]

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials"]

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query. Asked inside: SQLite follows `seen` as if it were a link like any other."""
        words = [sys.executable, "-c", ASK, f"file:{self.path}/pixmill.db?mode=ro", query]
        told = subprocess.run([*self._inside, *words], check=True, capture_output=True, text=True, timeout=60).stdout
        rows: list[dict[str, Any]] = json.loads(told)
        return rows

    def logs(self) -> str:
        """The end of every log file."""
        return Home(self.seen).logs()

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return shutil.disk_usage(self.seen).free

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.seen / FILLER).open("ab", buffering=0) as file:
            try:
                while file.write(bytes(65536)):
                    pass
            except OSError:
                pass
        assert self.free < 65536

    def make_room(self) -> None:
        """Take the filler away."""
        (self.seen / FILLER).unlink()


@contextmanager
def small_home(path: Path, megabytes: int) -> Iterator[SmallHome]:
    """A home on a file system of so many MiB; skips where this machine lets nobody mount one."""
    path.mkdir(parents=True)
    mount = f"mount -t tmpfs -o size={megabytes}m tmpfs {path} && echo ready && exec sleep infinity"
    try:
        process = subprocess.Popen(
            ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c", mount],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no program unshare here")
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            process.kill()
            pytest.skip(f"no file system can be mounted here: {process.communicate()[1].strip()}")
        yield SmallHome(path, {"PIXMILL_ENGINE": "fake"}, process.pid)
    finally:
        process.kill()
        process.communicate()
