"""What a hostile model file is, and what it is after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Canary:
    """What must not be touched: a file, and a port that is listened on."""

    file: Path
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/model"


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file (or folder) to import, and a word of the refusal. `opened`: who finds out, "front" or the "sandbox"."""

    make: Callable[[Path, Canary], Path]
    word: str
    opened: str = "front"
