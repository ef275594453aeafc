"""What commands that submit a job share: finding the model, counting, ringing, following to the end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.context import choose_model, registry
from cli.errors import Exit
from cli.output import emit_json, err, interactive, out, say
from worker.settings import Settings

if TYPE_CHECKING:
    from models.manifest import ModelVersion
    from store.database import Database
    from store.rows import JobRow
    from worker.sources.entry import Source

Check = Callable[[], None]


def find_model(chosen: Settings, reference: str | None) -> ModelVersion:
    """The model to use; a preset that is not in the registry yet is fetched first."""
    from models.errors import UnknownModel
    from models.presets import PRESETS

    try:
        return choose_model(chosen, reference)
    except UnknownModel:
        if reference is None or reference not in PRESETS:
            raise
    from models.pulling import pull

    say(f"{reference} is not here yet: fetching about {PRESETS[reference].download_mb} MB, once.")
    return pull(reference, registry(chosen), progress=say)


@contextmanager
def counting(source: Source) -> Iterator[Callable[[int], None] | None]:
    """Show the growing count while a large folder is scanned."""
    if not interactive():
        yield None
        return
    with err.status(f"Looking through the {source.description}") as status:
        yield lambda n: status.update(f"Looking through the {source.description}: {n:,} found")


def say_open(database: Database, queues: Sequence[str]) -> None:
    """Workers take whatever is due on their queues: tell of jobs that were left open before."""
    from cli.local import queues_for
    from store.insights import list_jobs
    from store.states import CLAIMABLE

    for row in list_jobs(database, states=tuple(CLAIMABLE), limit=3):
        if not set(queues_for(row.kind)) <= set(queues):
            continue
        done = f" ({row.classified + row.failed:,} of {row.found:,})" if row.kind == "classify" else ""
        say(f"Job {row.id} is still open{done} and goes on as well; `pixmill jobs pause {row.id}` puts it aside.")


def ring(chosen: Settings, job_id: int, queue: str = "classify") -> None:
    """Tell workers elsewhere of a job; those that start with this command look for work by themselves."""
    from cli.local import is_embedded

    if is_embedded(chosen):
        return
    from worker.dispatch import Dispatcher

    dispatcher = Dispatcher(chosen)
    dispatcher.ring(job_id, queue)
    dispatcher.close()


def say_detached(chosen: Settings, job_id: int, *, json: bool) -> None:
    """Print the id of a job that was submitted only, and say how to follow it."""
    from cli.local import is_embedded

    emit_json({"id": job_id}) if json else out.print(job_id)
    say(f"Job {job_id} is accepted. Follow it with `pixmill jobs follow {job_id}`.")
    if is_embedded(chosen):
        say("A running `pixmill worker` takes it; without one, following it works on it.")


def no_check() -> None:
    """Workers elsewhere are not ours to check."""


def follow_to_end(chosen: Settings, database: Database, job_id: int, check: Check, *, quiet: bool = False) -> Exit:
    """Follow a job and sum it up. Ctrl-C pauses a local job and leaves one on a server running."""
    from cli import summary
    from cli.follow import follow
    from cli.local import is_embedded

    try:
        row = follow(database, job_id, check)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is being done: further presses must not get in its way
        _interrupted(database, job_id, pause=is_embedded(chosen))
        return Exit.INTERRUPTED
    if quiet:
        say(_in_short(database, row))
    else:
        summary.summarize(database, row)
    return summary.end_code(row)


def _in_short(database: Database, row: JobRow) -> str:
    failed = f"; {row.failed:,} failed" if row.failed else ""
    if row.kind == "finetune":
        return f"Job {row.id} is {row.state.value.replace('_', ' ')}{failed}. Database: {database.where}"
    return f"Job {row.id}: {row.classified:,} of {row.found:,} classified{failed}. Database: {database.where}"


def _interrupted(database: Database, job_id: int, *, pause: bool) -> None:
    from store import jobs
    from store.errors import IllegalMove
    from store.insights import job as read_job

    if not pause:
        say(f"Job {job_id} goes on. Follow it: `pixmill jobs follow {job_id}`; end it: `pixmill jobs cancel {job_id}`.")
        return
    try:
        jobs.pause(database, job_id)
    except IllegalMove:
        return  # it ended at that very moment
    row = read_job(database, job_id)
    at = "" if row.kind == "finetune" else f" at {row.classified + row.failed:,} of {row.found:,}"
    say(f"Job {job_id} is paused{at}; nothing is lost. `pixmill jobs resume {job_id}` goes on.")
