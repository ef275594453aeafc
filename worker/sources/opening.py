"""From what the user named to the one source that reads it."""
# A path may be any text here, and what is wrong with it is told by its text:
# ruff: noqa: PTH100, PTH112, PTH113, PTH118, PTH120

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

from worker.sources.archive import ArchiveSource, is_archive, refuse_foreign
from worker.sources.cache import MAX_UNPACKED, ArchiveCache
from worker.sources.entry import Source, printable
from worker.sources.errors import MixedSource, NoSuchPath
from worker.sources.files import FilesSource
from worker.sources.folder import FolderSource
from worker.sources.manifest import ManifestSource, is_manifest
from worker.sources.paths import PathListSource
from worker.sources.patterns import is_pattern
from worker.sources.rules import Labels, Rules

_EXPECTED = "a folder, an image, a glob, a manifest (.csv, .tsv, .jsonl, .parquet), an archive (.zip, .tar) or '-'"
_MOST_NEIGHBOURS = 10_000  # names held against a misspelt one


class Options(TypedDict, total=False):
    """How to read a source.

    include, exclude: globs, see Rules. recursive: subfolders too (default). follow_links: into linked folders.
    labels: "folder" takes labels from folder names. stdin: what '-' reads. base: what relative paths are counted from
    (default: the working directory). cache_dir: where compressed TAR files are unpacked. max_unpacked: bytes that each
    of them may unpack to.
    """

    include: Sequence[str]
    exclude: Sequence[str]
    recursive: bool
    follow_links: bool
    labels: Labels
    stdin: BinaryIO | None
    base: Path | None
    cache_dir: Path | None
    max_unpacked: int


def open_source(paths: Sequence[str], **options: Unpack[Options]) -> Source:
    """The source that these paths name: one folder, manifest or archive; a list on stdin; or files of all kinds.

    Only looks at the paths; what they hold is read while iterating. Raises SourceError.
    """
    rules = replace(
        Rules.of(options.get("include", ()), options.get("exclude", ())),
        recursive=options.get("recursive", True),
        follow_links=options.get("follow_links", False),
        labels=options.get("labels", "none"),
    )
    base = Path(os.path.abspath(options.get("base") or Path.cwd()))
    if list(paths) == ["-"]:
        return PathListSource(options.get("stdin") or sys.stdin.buffer, base, rules)
    if "-" in paths:
        raise MixedSource("Expected '-' alone, got other paths beside it. Write those to standard input too.")
    found = [_located(path, base) for path in paths]
    if not found:
        raise NoSuchPath("", _EXPECTED)
    cache = ArchiveCache(options.get("cache_dir"), most=options.get("max_unpacked", MAX_UNPACKED))
    return _single(found[0], rules, cache) if len(found) == 1 else _several(found, rules, cache)


def _single(path: str, rules: Rules, cache: ArchiveCache) -> Source:
    if os.path.isdir(path):
        return FolderSource(Path(path), rules)
    if os.path.isfile(path):
        refuse_foreign(path)
        if is_manifest(path):
            return ManifestSource(Path(path), rules)
        if is_archive(path):
            return ArchiveSource(Path(path), rules, cache)
    return FilesSource([path], rules, cache)


def _several(paths: list[str], rules: Rules, cache: ArchiveCache) -> Source:
    manifests = [path for path in paths if is_manifest(path) and not os.path.isdir(path)]
    if manifests:
        raise MixedSource(
            f"Expected a manifest alone, got {printable(manifests[0])!r} beside {len(paths) - 1:,} other paths."
            " Classify each manifest in a job of its own."
        )
    return FilesSource(paths, rules, cache)


def _located(path: str, base: Path) -> str:
    """The absolute path, or glob. Raises NoSuchPath for what is neither there nor a glob."""
    if not path or "\0" in path:
        raise NoSuchPath(path, _EXPECTED)
    full = os.path.abspath(os.path.join(base, path))
    if os.path.lexists(full) or is_pattern(path):
        return full
    raise NoSuchPath(printable(full), _EXPECTED, _near(full))


def _near(path: str) -> list[str]:
    """Up to three paths like this one: the deepest folder that exists, with names like the next one of the path."""
    folder, name = os.path.split(path)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder, name = os.path.split(folder)
    try:
        with os.scandir(folder) as listing:
            names = [entry.name for entry in islice(listing, _MOST_NEIGHBOURS)]
    except OSError:
        return []
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(name.lower(), by_lower, n=3)
    return [printable(os.path.join(folder, by_lower[candidate])) for candidate in close]
