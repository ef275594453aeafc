"""What a command works with: the settings, the database, the registry."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cli.errors import CommandError, Exit
from cli.output import say
from worker.settings import Settings

if TYPE_CHECKING:
    from models.manifest import ModelVersion
    from models.registry import Registry
    from store.database import Database

MIN_FREE_MB = 64  # for the database and its log; a job of a million images takes some hundreds
COMING_UP_S = 30.0  # what a database server may take to answer: machines start their programs in any order
AGAIN_S = 0.5


def settings() -> Settings:
    """The settings of this process. Raises CommandError naming a setting that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "PIXMILL_" + "_".join(str(part) for part in first["loc"]).upper()
        raise CommandError(f"{name}: {first['msg']}, got {first['input']!r}.") from error


def make_home(chosen: Settings) -> None:
    """Make the home folder. Raises CommandError where that is not possible, or the disk is full."""
    try:
        chosen.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # the database holds secrets of webhooks
        with tempfile.TemporaryFile(dir=chosen.home):
            pass
        free_mb = shutil.disk_usage(chosen.home).free >> 20
        if free_mb < MIN_FREE_MB:
            raise CommandError(
                f"Only {free_mb} MB are free at {chosen.home}, and at least {MIN_FREE_MB} are needed. "
                "Make room, or let PIXMILL_HOME name a folder on another disk."
            )
    except OSError as error:
        raise CommandError(
            f"The folder {chosen.home} cannot be written: {error.strerror}. PIXMILL_HOME can name another one.",
            Exit.NOT_ALLOWED,
        ) from error


@contextmanager
def open_database(chosen: Settings, *, create: bool = False, wait_s: float = 0.0) -> Iterator[Database]:
    """The database, its schema checked; with `create`, the tables of an empty one are made.

    A server that does not answer is asked again for `wait_s`. Raises StoreError, CommandError.
    """
    from store import schema
    from store.database import Database

    database = Database(chosen.database)
    try:
        if create:
            database.prepare_folder()
        elif not has_database(chosen):
            raise CommandError(f"There are no jobs yet: no database at {database.where}.", Exit.NOT_FOUND)
        when_up(database, schema.ensure if create else schema.check, wait_s)
        yield database
    finally:
        database.close()


def when_up(database: Database, ask: Callable[[Database], None], wait_s: float = COMING_UP_S) -> None:
    """Ask a database; where its server does not answer, again for so long, and say so. Raises StoreError."""
    from store.errors import DatabaseUnavailable

    deadline, told = time.monotonic() + wait_s, False
    while True:
        try:
            return ask(database)
        except DatabaseUnavailable as error:
            if database.is_sqlite or time.monotonic() >= deadline:
                raise
            if not told:
                why = str(error).splitlines()[0].rstrip(" .:")
                say(f"{why}. It may be starting: asking again for {wait_s:.0f} s.", "yellow")
            told = True
            time.sleep(AGAIN_S)


def has_database(chosen: Settings) -> bool:
    """Whether there is a database to ask; one on a server is taken to be there."""
    return not chosen.database.startswith("sqlite") or Path(chosen.database.partition(":///")[2]).exists()


def registry(chosen: Settings) -> Registry:
    """The registry of models in the home folder."""
    from models.registry import Registry

    return Registry(chosen.models_folder)


def choose_model(chosen: Settings, reference: str | None) -> ModelVersion:
    """The model to use: the one named, or the only one there is. Raises CommandError, UnknownModel."""
    known = registry(chosen)
    return known.get(reference or only_model(version.manifest.name for version in known.list()))


def only_model(names: Iterable[str]) -> str:
    """The name of the only model there is. Raises CommandError where there is none, or a choice."""
    different = sorted(set(names))
    if len(different) == 1:
        return different[0]
    if different:
        raise CommandError(f"Which model? Choose one with --model: {', '.join(different)}.")
    raise CommandError(
        "There is no model yet. Import one (`pixmill models import FILE.keras --labels FILE`), fetch a pretrained one "
        "(`pixmill models pull NAME`; `pixmill models presets` lists them), or see `pixmill demo`.",
        Exit.NOT_FOUND,
    )
