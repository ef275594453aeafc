"""What counts as an image in a folder or archive, and what a folder's name says of the images in it."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH122

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.formats import HEAD_BYTES, IMAGE_EXTENSIONS, SUPPORTED, sniff
from worker.sources.entry import printable
from worker.sources.patterns import compile_pattern

Labels = Literal["none", "folder"]
Globs = tuple[re.Pattern[str], ...]

_EXTENSIONS = frozenset(extension.encode() for extension in IMAGE_EXTENSIONS)
# A file whose name does not say so is an image if it begins like one of these; documents and drawings are not meant.
_PICTURES = frozenset({*SUPPORTED, "HEIC", "AVIF", "JP2"})
_SKIPPED = frozenset({b"@eaDir", b"__MACOSX"})  # thumbnails of Synology, resource forks of macOS
_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """The user's choices for one source.

    include: only what matches, whatever its bytes; exclude: never what matches. Both ignore case. A glob without '/'
    is held against the name, one with '/' against the path relative to the folder or archive that is listed.
    labels: "folder" takes the label from the parent folder's name, and the split ("train", "val" or "test") from a
    folder above it that is named like one.
    """

    include: Globs = ()
    exclude: Globs = ()
    recursive: bool = True
    follow_links: bool = False
    labels: Labels = "none"

    @classmethod
    def of(cls, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> "Rules":
        """Rules from globs as the user wrote them; `dataclasses.replace` sets the rest."""
        return cls(include=_compiled(include), exclude=_compiled(exclude))

    def excludes(self, path: bytes) -> bool:
        """Whether an exclude glob matches this path, of a file or a folder."""
        return bool(self.exclude) and _matches(self.exclude, path)

    def admits(self, path: bytes) -> bool:
        """Whether the globs let a file pass that the user named."""
        return not self.excludes(path) and (not self.include or _matches(self.include, path))

    def picks(self, path: bytes) -> bool | None:
        """Whether this file is an image by its name; None when only its first bytes can tell."""
        if self.include:
            return _matches(self.include, path)
        return extension(path) in _EXTENSIONS or None

    def marks(self, folder: bytes) -> tuple[str | None, str | None]:
        """Label and split of the images in a folder, `b""` or `b"train/cats/"`."""
        if self.labels == "none" or not folder:
            return None, None
        names = [printable(name) for name in folder.rstrip(b"/").split(b"/")]
        above = names[:-1] or names  # an archive often has one more folder around its splits
        split = next((_SPLITS[name.lower()] for name in above if name.lower() in _SPLITS), None)
        return (None if split and len(names) == 1 else names[-1]), split


def extension(path: bytes) -> bytes:
    """The lower-case extension with its dot; nothing for `b"folder.d/name"` and `b".name"`."""
    return os.path.splitext(path)[1].lower()


def kind(path: bytes) -> str:
    """What `ignored` counts a file under: its extension."""
    return printable(extension(path)) or "no extension"


def is_hidden(name: bytes) -> bool:
    """Whether a file or folder of this name is never looked at."""
    return name.startswith(b".") or name in _SKIPPED


def looks_like_picture(head: bytes) -> bool:
    """Whether a file without a picture's extension is one by its first HEAD_BYTES."""
    return sniff(head[:HEAD_BYTES]) in _PICTURES


def _compiled(globs: Sequence[str]) -> Globs:
    return tuple(compile_pattern(_normal(glob), ignore_case=True) for glob in globs)


def _normal(glob: str) -> str:
    glob = glob.removeprefix("./").rstrip("/") or "*"
    return glob.lstrip("/") if "/" in glob else f"**/{glob}"


def _matches(globs: Globs, path: bytes) -> bool:
    text = os.fsdecode(path)
    return any(glob.fullmatch(text) for glob in globs)
