"""A manifest on its way to a server, with the files that it names."""
# Names are bytes here, as everywhere where files are named:
# ruff: noqa: PTH118

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from api.client.errors import NotReadable
from api.client.files import Sending, files_of, why_not
from models.formats import HEAD_BYTES
from worker.sources.entry import Entry
from worker.sources.errors import SourceError
from worker.sources.manifest import is_manifest
from worker.sources.opening import open_source
from worker.sources.rules import looks_like_picture

REWRITTEN = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class Packed:
    """What is sent for a manifest. `missing`: named files that are not sent, since they cannot be read here, or are no
    pictures and lie outside of its folder; their rows will say that they are missing.

    `is_rewritten`: the manifest names files outside of its folder, so that one with their new names goes instead.
    """

    files: list[Sending]
    missing: list[bytes]
    is_rewritten: bool


def packed(entries: Iterable[Entry], manifest: Path, folder: Path) -> Packed:
    """What to send for these entries of a manifest; one that is written anew is put into `folder`. Raises SourceError.

    Files below the manifest's folder keep their names, and the manifest goes as it is. Where one of them lies
    elsewhere, all get their whole paths, without the slash at the beginning.
    """
    root, rows = os.fsencode(manifest.parent), list(entries)
    stays = all(_stays(entry.path) for entry in rows)
    names = {entry.path: entry.path if stays else _whole(root, entry.path) for entry in rows}
    files: list[Sending] = []
    missing: list[bytes] = []
    for path, name in names.items():
        file = manifest.parent / os.fsdecode(path)
        if _may_go(file, manifest.parent):
            files.append(Sending(file, name))
        else:
            missing.append(path)
    if stays:
        return Packed([*files, Sending(manifest, os.fsencode(manifest.name))], missing, is_rewritten=False)
    table = folder / REWRITTEN
    with table.open("w", encoding="utf-8") as out:
        out.writelines(_line(entry, names[entry.path]) for entry in rows)
    return Packed([*files, Sending(table, REWRITTEN.encode())], missing, is_rewritten=True)


def _may_go(file: Path, folder: Path) -> bool:
    """Whether a file is sent. From outside of the manifest's folder only pictures are: whoever wrote the manifest
    is not asked whether the server may have a key or a letter of this machine.
    """
    if why_not(file, folder) is None:
        return True
    if why_not(file, None) is not None:
        return False
    with file.open("rb") as opened:
        return looks_like_picture(opened.read(HEAD_BYTES))


def _stays(path: bytes) -> bool:
    """Whether a file may keep its name: it is below the manifest's folder, and would not be taken for a manifest."""
    parts = path.split(b"/")
    return not {b"", b".", b".."} & set(parts) and not (len(parts) == 1 and is_manifest(os.fsdecode(path)))


def _whole(root: bytes, path: bytes) -> bytes:
    return os.path.normpath(os.path.join(root, path)).lstrip(b"/")


def _line(entry: Entry, name: bytes) -> str:
    """The row of an entry under its new name, as JSON."""
    known = {"label": entry.label, "split": entry.split, "id": entry.external_id}
    said = {key: value for key, value in known.items() if value is not None}
    return json.dumps({"file_name": os.fsdecode(name), **said, **(entry.extra or {})}, ensure_ascii=False) + "\n"


@contextmanager
def sendings(paths: Sequence[str | Path]) -> Iterator[Iterable[Sending]]:
    """What to send for these paths: files, folders with all that is in them, or one manifest and what it names.

    Raises NotReadable.
    """
    if len(paths) != 1 or not is_manifest(str(paths[0])) or not Path(paths[0]).is_file():
        yield files_of(paths)
        return
    manifest = Path(paths[0]).absolute()
    with TemporaryDirectory(prefix="pixmill-") as folder:
        try:
            found = packed(open_source([str(manifest)]), manifest, Path(folder))
        except SourceError as error:
            raise NotReadable(str(error)) from error
        yield found.files
