"""What can be wrong with what the user named, before a single image is opened.

SourceError
├── NoSuchPath            a path or a glob leads nowhere; carries near names
├── UnreadablePath        the operating system refuses to list or open it
├── EmptySource           nothing in it is an image; says what was passed over
├── MixedSource           things were named together that only make sense alone
├── BadList               standard input holds no list of paths
├── BadManifest           a manifest cannot be read; carries the line
│   └── MissingReader     its format needs a package that is not installed
└── BadArchive            an archive is damaged, locked, too large, or of a format that cannot be read
"""

from collections import Counter
from collections.abc import Sequence


class SourceError(Exception):
    """Root of every error that this package raises on purpose; the message is for a person."""


class NoSuchPath(SourceError):
    """Nothing is at this path, or no file matches this glob."""

    def __init__(self, path: str, expected: str, near: Sequence[str] = ()) -> None:
        hint = f" Did you mean {' or '.join(near)}?" if near else " Check the spelling, and that the disk is mounted."
        super().__init__(f"Expected {expected}, but there is none at {path!r}.{hint}")
        self.path = path
        self.near = tuple(near)


class UnreadablePath(SourceError):
    """A folder cannot be listed or a file not opened."""

    def __init__(self, path: str, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        super().__init__(f"Expected to read {path!r}, got: {reason}. Check that this user may read it.")
        self.path = path


class EmptySource(SourceError):
    """The source holds no image; `ignored` says what was passed over and why."""

    def __init__(self, description: str, ignored: Counter[str]) -> None:
        super().__init__(_nothing_found(description, ignored))
        self.ignored = Counter(ignored)


class MixedSource(SourceError):
    """Paths were named together that cannot be read as one source."""


class BadList(SourceError):
    """Standard input does not hold a list of paths."""


class BadManifest(SourceError):
    """A manifest cannot be read; `line` counts from 1 where a line is to blame."""

    def __init__(self, path: str, problem: str, line: int | None = None) -> None:
        where = f"Manifest {path!r}" if line is None else f"Manifest {path!r}, line {line}"
        super().__init__(f"{where}: {problem}")
        self.path = path
        self.line = line


class MissingReader(BadManifest):
    """The manifest's format needs an optional package."""


class BadArchive(SourceError):
    """An archive cannot be read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"Archive {path!r}: {problem}")
        self.path = path


def _nothing_found(description: str, ignored: Counter[str]) -> str:
    """Say what was looked at: `.txt 10, .db 2` are files, all other reasons are told after them."""
    files = Counter({reason: n for reason, n in ignored.items() if reason.startswith(".") or reason == "no extension"})
    others = ignored - files
    text = f"Expected images in {description}, found 0 images among {_amount(files.total(), 'file')}"
    text += f": {_listed(files)}." if files else "."
    if others:
        text += f" Passed over: {_listed(others)}."
    extension = next((reason for reason, _ in files.most_common() if reason != "no extension"), None)
    if extension:
        text += f" If these are images, `--include '*{extension}'` names them."
    return text


def _listed(counts: Counter[str], most: int = 8) -> str:
    shown = [f"{reason} {n:,}" for reason, n in counts.most_common(most)]
    return ", ".join([*shown, f"{len(counts) - most} more kinds"] if len(counts) > most else shown)


def _amount(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
