"""What must be true of files on disk: their kind and hashes, and that they are still there after a power cut."""

from __future__ import annotations

import hashlib
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import InvalidModel

# What the standard library raises on a damaged zip; it promises no list.
BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def facts_of(path: Path) -> dict[str, Any]:
    """What a manifest says of one file: {"size": bytes, "sha256": hex}."""
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def plain_files(folder: Path) -> Sequence[Path]:
    """Every file below. Raises InvalidModel for a link, device or other thing that a model version must not hold."""
    paths = sorted(folder.rglob("*"))
    strange = next((path for path in paths if path.is_symlink() or not (path.is_file() or path.is_dir())), None)
    if strange is not None:
        raise InvalidModel(f"A model version holds plain files only; {strange} is none.")
    return [path for path in paths if path.is_file()]


def sync(path: Path) -> None:
    """Wait until the file, or the folder's list of entries, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` for a folder with all that is in it."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new one, never a half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
