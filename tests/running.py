"""Running the real command line in a home of its own, with a stand-in model where the model does not matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image
from sqlalchemy import text

from models.manifest import Manifest, Preprocessing
from models.registry import Registry
from store.database import Database

LABELS = ("ant", "bee", "cat", "dog", "eel")
SMALL = Preprocessing(width=16, height=16)


@dataclass
class Home:
    """A home folder and the command line in it."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def env(self) -> dict[str, str]:
        """A bare environment with this home."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "HOME": str(self.path), "PIXMILL_HOME": str(self.path), **self.environment}

    def command(self, *arguments: object) -> list[str]:
        """The command line as a list of words."""
        return [sys.executable, "-P", "-m", "cli", *(str(argument) for argument in arguments)]

    def run(self, *arguments: object, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; asserts its exit code, and that no traceback shows."""
        options = {"env": self.env(), "capture_output": True, "text": True, "timeout": 180, "cwd": self.path, **options}
        done = subprocess.run(self.command(*arguments), check=False, **options)
        assert "Traceback" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr, self.logs())
        return done

    def json(self, *arguments: object, code: int | None = 0, **options: Any) -> list[dict[str, Any]]:
        """The JSON lines that a command prints."""
        return [json.loads(line) for line in self.run(*arguments, code=code, **options).stdout.splitlines()]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.path,
        )

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query, straight from the database: polled often, so without a process of its own."""
        database = Database(self.environment.get("PIXMILL_DATABASE_URL", f"sqlite:///{self.path}/pixmill.db"))
        try:
            with database.read() as connection:
                return [dict(row._mapping) for row in connection.execute(text(query))]
        finally:
            database.close()

    def logs(self) -> str:
        """The end of every log file, for a failing test."""
        return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in sorted(self.path.glob("logs/*.log")))

    def processes(self) -> list[psutil.Process]:
        """Every process of this home. The broker writes its title over its environment: its socket tells."""
        title, found = f"unixsocket:{self.path}/", []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("PIXMILL_HOME") == str(self.path)
                if (ours or any(title in word for word in process.cmdline())) and process.pid != os.getpid():
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found


def command_of(process: psutil.Process) -> list[str]:
    """The words that a process was started with; none where it has ended, as one from a list may at any moment."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def fake_model(home: Path, name: str = "fake", labels: tuple[str, ...] = LABELS) -> None:
    """Register a model version that only the stand-in engine can serve."""
    registry = Registry(home / "models")
    with registry.staging() as folder:
        version = folder / "version"
        version.mkdir()
        (version / "model.keras").write_bytes(name.encode())
        (version / "labels.json").write_text(json.dumps(list(labels)))
        np.savez(
            version / "probe.npz", images=np.zeros((1, 16, 16, 3), np.uint8), probabilities=np.zeros((1, len(labels)))
        )
        registry.add(version, Manifest(name, 0, SMALL, "probabilities", len(labels), "2026-01-01T00:00:00Z"))


def write_images(folder: Path, count: int, start: int = 0) -> None:
    """Small PNG files, each of its own content."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(start, start + count):
        pixels = np.frombuffer(n.to_bytes(4, "big") * 48, np.uint8).reshape(8, 8, 3)
        Image.fromarray(pixels).save(folder / f"{n:06}.png", compress_level=1)


def write_slow(folder: Path, count: int, different: int = 20) -> Path:
    """Pictures that take some milliseconds each, so that a fault meets work: a few under many names; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(1)
    for n in range(count):
        name = folder / f"{n:05}.jpg"
        if n < different:
            Image.fromarray(noise.integers(0, 256, (400, 500, 3), dtype=np.uint8)).save(name)
        else:
            name.hardlink_to(folder / f"{n % different:05}.jpg")
    return folder


def eventually(condition: Callable[[], bool], seconds: float = 30.0, what: str = "it") -> None:
    """Wait for a condition. Fails after a generous time, so that a slow machine does not matter."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


@contextmanager
def running(home: Home, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the test and is ended with it."""
    process = home.start(*arguments)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
