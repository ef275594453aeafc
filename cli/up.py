"""`pixmill up`: the API, the workers and the broker under one supervisor, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.context import make_home, registry, settings, when_up
from cli.errors import CommandError, Exit
from cli.listening import Place, find_roots, free_port, reachable
from cli.opening import stays_here
from cli.output import say
from cli.worker import served_queues

if TYPE_CHECKING:
    from cli.board import Show
    from cli.standing import Observer
    from store.database import Database
    from worker.kept import Program
    from worker.settings import Settings
    from worker.supervisor import Supervisor

LOOK_S = 1.0
START_LOOK_S = 0.1
STOP_LOOK_S = 0.25


def up(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders whose files may be classified; on loopback, by default this one."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Where the API listens. Default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Its port; 0 for any free one. Default: 8420.")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="auto (every GPU, else the CPU), cpu, or GPU numbers or UUIDs.")
    ] = "auto",
    queues: Annotated[str, typer.Option(help="classify, train, or both.")] = "classify,train",
) -> None:
    """Run everything on this machine, and keep it running: HTTP API, workers, broker. Ctrl-C stops in order."""
    from cli.standing import Api, Observer
    from worker.devices import find_devices
    from worker.supervisor import Supervisor

    stays_here("up")
    chosen = settings()
    served = served_queues(queues)
    found = find_devices(devices)
    address = host or chosen.api_host
    roots = find_roots(folders or [], chosen, address)
    make_home(chosen)
    with _only_one(chosen) as claim, _prepared(chosen) as database:
        place = Place(reachable(address), free_port(address, chosen.api_port if port is None else port), roots)
        claim(place.url)
        api = _api_program(chosen, address, place)
        supervisor = Supervisor(chosen, found, notify=say, queues=served, programs=[api])
        with _signals() as told:
            supervisor.start()
            _run(supervisor, Observer(supervisor, database, Api(place.host, place.port, api.log)), place, told)


def _run(supervisor: Supervisor, observer: Observer, place: Place, told: Told) -> None:
    """Show how everything stands until told to stop; then until everything has ended. Raises CommandError."""
    from cli.board import board

    (api,) = supervisor.others
    try:
        with board() as show:
            _show_until_told(supervisor, observer, place, told, show)
            given_up = not told.times
            _say_stopping(given_up=given_up)
            supervisor.begin_stop()
            while not supervisor.wait_ended(STOP_LOOK_S):
                if told.times > 1:
                    supervisor.hurry()
                show(observer.look())
    finally:
        supervisor.stop()
    if given_up:
        log = api.program.log
        raise CommandError(f"The API cannot run here: {_last_line(log)} Log: {log}", Exit.UNEXPECTED)
    if supervisor.hurried:
        say("Ended at once. What was being worked on is done again at the next start; nothing is lost.")
        raise typer.Exit(Exit.INTERRUPTED)
    say("Stopped. Open jobs go on at the next start.")


def _show_until_told(supervisor: Supervisor, observer: Observer, place: Place, told: Told, show: Show) -> None:
    """Until the person wants it to end, or the API is down for good; greets when the API answers first."""
    (api,) = supervisor.others
    greeted = False
    while not told.times and api.state != "down" and not supervisor.ended:
        look = observer.look()
        if not greeted and look.api_answers:
            greeted = True
            _greet(supervisor.settings, place)
        show(look)
        told.wait(LOOK_S if greeted else START_LOOK_S)


def _greet(chosen: Settings, place: Place) -> None:
    """What a person needs to begin: the address, the token's place, what may be read, a first request."""
    token = shlex.quote(str(chosen.token_file))
    say(f"Pixmill is up at {place.url} (a browser shows the API's page there).")
    say(f"  Token   {chosen.token_file} (for everything; `pixmill token create` makes others)")
    say(f"  Reads   {', '.join(map(str, place.roots))}")
    say(f"  Data    {chosen.home} (logs in {chosen.log_folder.name}/)")
    say("Begin in another terminal:")
    say(f"  export PIXMILL_SERVER={place.url} PIXMILL_TOKEN=$(cat {token})")
    say(
        "  curl --oauth2-bearer $PIXMILL_TOKEN $PIXMILL_SERVER/api/v1/jobs -H content-type:application/json "
        f"-d {shlex.quote(json.dumps(_first_job(chosen, place)))}"
    )
    say("Ctrl-C stops everything; open jobs go on at the next start.")


def _say_stopping(*, given_up: bool) -> None:
    from worker.supervisor import STOP_S

    if not given_up:
        say(
            "Stopping: first the API, then the workers, which finish their batch or write their checkpoint, then the "
            f"broker; {STOP_S:.0f} s at the most. Ctrl-C again ends at once."
        )


class Told:
    """How often SIGINT or SIGTERM came. Only counted where it comes: a handler that takes a lock may wait for ever."""

    def __init__(self) -> None:
        self.times = 0

    def hear(self, *_: object) -> None:
        """The signals' handler."""
        self.times += 1

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a first signal comes."""
        deadline = time.monotonic() + seconds
        while not self.times and time.monotonic() < deadline:
            time.sleep(0.05)


@contextmanager
def _signals() -> Iterator[Told]:
    """Counts the signals that tell us to end, instead of being ended by them."""
    told = Told()
    before = {number: signal.signal(number, told.hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _only_one(chosen: Settings) -> Iterator[Callable[[str], object]]:
    """Refuse a second `up` for the same home: one supervisor is enough, and the port would be taken anyway."""
    from worker.locks import FileLock

    lock = FileLock(chosen.run_folder / "up.lock")
    note = chosen.run_folder / "up.address"
    if not lock.acquire():
        where = note.read_text(encoding="utf-8").strip() if note.exists() else "its address is being made"
        raise CommandError(
            f"Pixmill is already up for {chosen.home}: {where}. Use that one, stop it with Ctrl-C, or choose another "
            "folder for this one with PIXMILL_HOME.",
        )
    try:
        yield lambda address: note.write_text(f"{address}\n", encoding="utf-8")
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _prepared(chosen: Settings) -> Iterator[Database]:
    """The database with the schema of this Pixmill: an own SQLite file is made or brought up to date.

    Raises SchemaMismatch for a server's database that is not, StoreError.
    """
    from store import schema
    from store.database import Database

    database = Database(chosen.database)
    try:
        if chosen.database.startswith("sqlite"):
            database.prepare_folder()
            found = schema.current(database)
            if found is not None and found < schema.HEAD:
                say(f"Bringing {database.where} from schema {found} to {schema.HEAD} …")
                schema.upgrade(database)
            schema.ensure(database)
        when_up(database, schema.check)
        yield database
    finally:
        database.close()


def _api_program(chosen: Settings, host: str, place: Place) -> Program:
    """`pixmill api` as a program to be kept running. Its settings come from here, not from where it stands."""
    from worker.kept import Program
    from worker.processes import MISCONFIGURED

    roots = [word for root in place.roots for word in ("--root", str(root))]
    secrets = ("PIXMILL_SERVER", "PIXMILL_TOKEN")  # it serves, and asks nobody
    environment = {**os.environ, **chosen.environment()}
    return Program(
        kind="api",
        title="The API",
        command=[sys.executable, "-P", "-m", "cli", "api", "--host", host, "--port", str(place.port), *roots],
        log=chosen.log_folder / "api.log",
        folder=chosen.run_folder,
        environment={name: value for name, value in environment.items() if name not in secrets},
        hopeless=(MISCONFIGURED, Exit.USAGE, Exit.NOT_FOUND, Exit.NOT_ALLOWED),
    )


def _last_line(log: Path) -> str:
    """The last line of a log that has words, for an error message."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace")[-2000:].splitlines()]
    except OSError:
        return ""
    return next((line.removeprefix("Error: ") for line in reversed(lines) if line), "")


def _first_job(chosen: Settings, place: Place) -> dict[str, object]:
    """A job to try it with; the model is named where there are several."""
    job: dict[str, object] = {"kind": "classify", "source": {"folder": str(place.roots[0])}}
    names = {version.manifest.name for version in registry(chosen).list()}
    return job if len(names) == 1 else {**job, "model": min(names, default="MODEL")}
