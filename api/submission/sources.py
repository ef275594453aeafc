"""From the source that a request names to one that is opened, every path checked against the allowed roots."""
# What a path is, is asked of bytes:
# ruff: noqa: PTH112, PTH113, PTH118, PTH120

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from api.context import Context
from api.problems import Problem
from api.schemas.submit import Archive, Files, Folder, Manifest, Paths, Source, Upload
from api.submission.fence import Fenced, Without, is_inside, leads_out
from api.submission.tables import as_jsonl
from api.uploads.folders import files_folder
from worker.sources.archive import is_archive
from worker.sources.entry import Source as Opened
from worker.sources.entry import printable
from worker.sources.files import FilesSource
from worker.sources.folder import FolderSource
from worker.sources.manifest import READERS, ManifestSource, is_manifest
from worker.sources.opening import open_source
from worker.sources.patterns import is_pattern, split_pattern
from worker.sources.rules import Labels

UNPACKED_FACTOR = 8  # a compressed TAR file that was uploaded may unpack to so many times the upload limit
LOOKED_AT = 10_000  # names of an upload's top folder that decide how it is read


class Choice:
    """What of a source is wanted: globs and labels."""

    def __init__(self, include: list[str], exclude: list[str], labels: Labels) -> None:
        self.include, self.exclude, self.labels = include, exclude, labels


class Opener:
    """Opens the sources of one scan; what it makes on the way is gone when `stack` is closed."""

    def __init__(self, context: Context, choice: Choice, stack: ExitStack) -> None:
        self._context, self._choice, self._stack = context, choice, stack
        self._home: bytes | None = os.path.realpath(os.fsencode(context.settings.home))

    def open(self, source: Source) -> Opened:
        """The source, confined. Raises Problem, SourceError."""
        if isinstance(source, Upload):
            return self._upload(source.upload)
        if isinstance(source, Paths):
            return self._paths(source.paths)
        if isinstance(source, Files):
            return self._files(source.files)
        return self._named(source)

    def _named(self, source: Folder | Manifest | Archive) -> Opened:
        given = next(iter(source.model_dump().values()))
        real = self._context.roots.check(given)
        if isinstance(source, Folder):
            fits, what = os.path.isdir(real), "a folder"
        else:
            wanted = is_manifest if isinstance(source, Manifest) else is_archive
            fits = os.path.isfile(real) and wanted(os.fsdecode(real))
            what = "a manifest (.csv, .tsv, .jsonl, .parquet)" if wanted is is_manifest else "an archive (.zip, .tar)"
        if not fits:
            raise Problem("bad-source", f"Expected {what} at {given!r}, got something else. `paths` takes all kinds.")
        return self._one(real, self._bound(real))

    def _paths(self, paths: list[str]) -> Opened:
        reals = [self._real(path) for path in paths]
        bound = self._common(os.fsencode(split_pattern(os.fsdecode(real))[0]) for real in reals)
        if len(reals) == 1 and os.path.lexists(reals[0]):
            return self._one(reals[0], bound)
        return self._several(reals, bound)

    def _files(self, names: list[str]) -> Opened:
        """Files that need not be there; only their folders are looked at."""
        reals = [self._context.roots.place(name) for name in names]
        bound = self._common(reals)
        base = os.path.commonpath([os.path.dirname(real) for real in reals])
        listed = b"".join(real + b"\0" for real in reals)
        source = self._open(["-"], stdin=BytesIO(listed), base=Path(os.fsdecode(base)))
        source.description = printable(names[0]) if len(names) == 1 else f"the {len(names):,} files given"
        return Fenced(source, bound, base, self._home)

    def _common(self, reals: Iterable[bytes]) -> bytes:
        """The root that all of them lie in. Raises Problem."""
        bounds = {self._bound(real) for real in reals}
        if len(bounds) != 1:
            raise Problem(
                "bad-source", "One job reads below one allowed root; submit the paths of each in its own job."
            )
        return bounds.pop()

    def _real(self, path: str) -> bytes:
        """Where a path leads, or a glob begins. Raises Problem."""
        if not is_pattern(path) or os.path.lexists(path):
            return self._context.roots.check(path)
        start, names = split_pattern(path)
        if ".." in names:
            raise Problem("root-not-allowed", f"Expected a glob without .., got {path[:300]!r}.")
        return os.path.join(self._context.roots.check(start), *map(os.fsencode, names))

    def _bound(self, real: bytes) -> bytes:
        root = self._context.roots.root_of(real)
        if root is None:
            raise Problem("root-not-allowed", "The path is outside the allowed roots.")
        return root

    def _one(self, real: bytes, bound: bytes) -> Opened:
        path = os.fsdecode(real)
        if os.path.isfile(real) and is_manifest(path):
            return self._manifest(Path(path), bound)
        return self._confined(self._open([path]), bound)

    def _several(self, reals: list[bytes], bound: bytes) -> Opened:
        return self._confined(self._open([os.fsdecode(real) for real in reals]), bound)

    def _confined(self, source: Opened, bound: bytes) -> Opened:
        if isinstance(source, FolderSource):  # it follows no link, and its items are confined to it
            holds_home = self._home is not None and is_inside(self._home, os.fsencode(source.root))
            return Without(source, self._home) if holds_home and self._home else source
        if isinstance(source, FilesSource):
            return Fenced(source, bound, os.fsencode(source.root), self._home)
        source.confined = True
        return source

    def _manifest(self, path: Path, bound: bytes) -> Opened:
        """A manifest; the root of its items is its own folder, or the allowed one where it names files elsewhere."""
        where = path
        if path.suffix.lower() == ".parquet":
            folder = self._context.settings.cache_folder / "manifests"
            where = self._stack.enter_context(as_jsonl(path, folder))
        source = self._open([str(where)])
        own = os.fsencode(path.parent)
        if isinstance(source, ManifestSource):
            source.root, source.description = path.parent, f"manifest {printable(str(path))}"
        leaves = any(leads_out(name, own) for name in _names(where))
        return Fenced(source, bound, bound if leaves else own, self._home)

    def _upload(self, upload_id: str) -> Opened:
        folder = os.path.realpath(os.fsencode(files_folder(self._context.settings, upload_id)))
        if not os.path.isdir(folder):
            raise Problem("bad-source", f"Upload {upload_id} holds no file.")
        self._home = None  # an upload lies in it
        with os.scandir(folder) as listing:
            names = sorted(entry.name for entry in islice(listing, LOOKED_AT))
        source = self._uploaded(folder, names)
        only = f" ({printable(names[0])})" if len(names) == 1 else ""
        source.description = f"upload {upload_id}{only}"
        return source

    def _uploaded(self, folder: bytes, names: list[bytes]) -> Opened:
        files = [name for name in names if os.path.isfile(os.path.join(folder, name))]
        tables = [name for name in files if is_manifest(os.fsdecode(name))]
        if len(tables) == 1:
            return self._manifest(Path(os.fsdecode(os.path.join(folder, tables[0]))), folder)
        if names == files and (len(names) == 1 or any(is_archive(os.fsdecode(name)) for name in names)):
            return self._several([os.path.join(folder, name) for name in names], folder)
        return self._one(folder, folder)

    def _open(self, paths: list[str], stdin: BinaryIO | None = None, base: Path | None = None) -> Opened:
        settings = self._context.settings
        return open_source(
            paths,
            include=self._choice.include,
            exclude=self._choice.exclude,
            labels=self._choice.labels,
            cache_dir=settings.cache_folder / "archives",
            max_unpacked=(settings.max_upload_mb << 20) * UNPACKED_FACTOR,
            stdin=stdin,
            base=base,
        )


def _names(table: Path) -> Iterator[bytes]:
    """Each path that a manifest names."""
    return (_bytes(row.get("file_name", "")) for _, row in READERS[table.suffix.lower()](table))


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "replace")  # what is half a character is refused when the entry is made
