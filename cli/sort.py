"""`pixmill sort`: files a job's images into one folder per class."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import open_database, settings
from cli.errors import CommandError
from cli.output import describe, emit_json, say

if TYPE_CHECKING:
    from store.results import ResultRow


def sort(
    job: Annotated[int, typer.Argument(help="The job's number.")],
    dest: Annotated[Path, typer.Argument(help="The folder to file into; made if it is not there.")],
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Less sure images go to the folder 'unsure'.")] = 0.0,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files (the default).")] = False,
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links instead of copies.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """File the images of a job into class folders; the originals stay where they are."""
    from store.results import Filter, stream

    if copy and link:
        raise CommandError("--copy and --link exclude each other.")
    sorted_into: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with open_database(settings()) as database:
        for row in stream(database, job, Filter(status="ok")):
            folder = folder_name(row.label or "") if (row.score or 0) >= min_score else "unsure"
            problem = place(row, dest / folder, link=link)
            (left_out if problem else sorted_into)[problem or folder] += 1
    if json:
        emit_json({"job_id": job, "dest": str(dest), "sorted": dict(sorted_into), "left_out": dict(left_out)})
    say(f"{sorted_into.total():,} images filed under {dest}: {describe(sorted_into)}.")
    if left_out:
        say(f"{left_out.total():,} left out: {describe(left_out)}.", "yellow")


def folder_name(label: str) -> str:
    """A label as a folder's name: no separators, no leading dot, not empty."""
    name = label.replace("/", "_").replace("\\", "_").replace("\x00", "").strip()
    return name.replace(".", "_", 1) if name.startswith(".") else name or "_"


def place(row: ResultRow, folder: Path, *, link: bool) -> str | None:
    """Copy or link one image into a folder; returns why not. Names that collide get the item's number."""
    if row.member is not None:
        return "inside an archive"
    source = Path(os.fsdecode(row.path))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / source.name
    if target.exists() or target.is_symlink():
        if _same(source, target):
            return None  # sorted before
        target = folder / f"{source.stem}_{row.idx}{source.suffix}"
        if target.exists() or target.is_symlink():
            return None
    try:
        target.symlink_to(source.absolute()) if link else shutil.copy2(source, target)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _same(source: Path, target: Path) -> bool:
    if target.is_symlink():
        return target.resolve() == source.resolve()
    try:
        one, other = source.stat(), target.stat()
    except OSError:
        return False
    return (one.st_size, int(one.st_mtime)) == (other.st_size, int(other.st_mtime))
