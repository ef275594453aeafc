"""`pixmill sort`: files a job's images into one folder per class."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.desk import Desk
from cli.errors import CommandError
from cli.opening import open_desk
from cli.output import describe, emit_json, say

if TYPE_CHECKING:
    from store.results import ResultRow
    from store.rows import JobRow

NAME_BYTES = 200  # of a folder's name; file systems take 255


def sort(
    job: Annotated[int, typer.Argument(help="The job's number.")],
    dest: Annotated[Path, typer.Argument(help="The folder to file into; made if it is not there.")],
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Less sure images go to the folder 'unsure'.")] = 0.0,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files (the default).")] = False,
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links instead of copies.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """File the images of a job into class folders; the originals stay where they are."""
    from store.results import Filter

    if copy and link:
        raise CommandError("--copy and --link exclude each other.")
    sorted_into: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    if dest.exists() and not dest.is_dir():
        raise CommandError(f"{dest} is a file; name a folder to file into.")
    with open_desk() as desk:
        _refuse_own_folder(desk.job(job), dest)
        for row in desk.results(job, Filter(status="ok")):
            folder = folder_name(row.label or "") if (row.score or 0) >= min_score else "unsure"
            problem = place(desk, row, dest / folder, link=link)
            (left_out if problem else sorted_into)[problem or folder] += 1
    if json:
        emit_json({"job_id": job, "dest": str(dest), "sorted": dict(sorted_into), "left_out": dict(left_out)})
    kinds = f": {describe(sorted_into)}" if sorted_into else ""
    say(f"{sorted_into.total():,} images filed under {dest}{kinds}.")
    if left_out:
        say(f"{left_out.total():,} left out: {describe(left_out)}.", "yellow")


def _refuse_own_folder(row: JobRow, dest: Path) -> None:
    """Copies among the originals would be classified again with them."""
    root = Path(os.fsdecode(row.root))
    if row.confined and dest.resolve().is_relative_to(root.resolve()):
        raise CommandError(f"{dest} is inside {root}, the folder of the originals; file into another one.")


def folder_name(label: str) -> str:
    """A label as a folder's name: no separators, no leading dot, not empty, not too long."""
    name = label.replace("/", "_").replace("\\", "_").replace("\x00", "").strip()
    name = name.replace(".", "_", 1) if name.startswith(".") else name or "_"
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def place(desk: Desk, row: ResultRow, folder: Path, *, link: bool) -> str | None:
    """Copy or link one image into a folder; returns why not. Another file of the same name gets a number behind it."""
    if row.member is not None:
        return "inside an archive"
    try:
        with desk.original(row, stays=link) as source:
            folder.mkdir(parents=True, exist_ok=True)
            for target in _names(folder, Path(os.fsdecode(row.path))):
                if not os.path.lexists(target):
                    target.symlink_to(source.absolute()) if link else shutil.copy2(source, target)
                    return None
                if _same(source, target):
                    return "there already"
    except OSError as error:
        return error.strerror or type(error).__name__
    raise AssertionError("the names never end")


def _names(folder: Path, original: Path) -> Iterator[Path]:
    yield folder / original.name
    for number in count(2):
        yield folder / f"{original.stem}_{number}{original.suffix}"


def _same(source: Path, target: Path) -> bool:
    """Whether a target holds this very image: by its content, since names, sizes and times may agree by chance."""
    if target.is_symlink():
        return target.resolve() == source.resolve()
    return filecmp.cmp(source, target, shallow=False)
