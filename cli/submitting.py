"""What commands that submit a job share: submitting beside the workers, leaving it, or following it to its end."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from cli.desk import Check, Desk, Submit
from cli.errors import Exit
from cli.output import emit_json, out, say


def carry_out(desk: Desk, submit: Submit, queues: Sequence[str], device: str, *, quiet: bool) -> tuple[int, Exit]:
    """Submit a job with workers standing by, and follow it; returns its number and the exit code."""
    with desk.at_work(queues, device) as check:
        job_id = submit()
        return job_id, follow_to_end(desk, job_id, check, quiet=quiet)


def leave(desk: Desk, submit: Submit, *, json: bool) -> int:
    """Submit a job only: print its number, and say how to follow it."""
    job_id = submit()
    emit_json({"id": job_id}) if json else out.print(job_id)
    say(f"Job {job_id} is accepted. Follow it with `pixmill jobs follow {job_id}`.")
    if desk.works_here:
        say("A running `pixmill worker` takes it; without one, following it works on it.")
    return job_id


def no_check() -> None:
    """Workers elsewhere are not ours to check."""


def follow_to_end(desk: Desk, job_id: int, check: Check, *, quiet: bool = False) -> Exit:
    """Follow a job and sum it up. Ctrl-C pauses a job that works here, and lets go of one that works elsewhere."""
    from cli import summary
    from cli.follow import follow

    try:
        with desk.patiently():
            row = follow(desk, job_id, check)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is being done: further presses must not get in its way
        _interrupted(desk, job_id)
        return Exit.INTERRUPTED
    if quiet:
        say(f"{summary.in_short(row)} {desk.where}")
    else:
        summary.summarize(desk, row)
    return summary.end_code(row)


def _interrupted(desk: Desk, job_id: int) -> None:
    from store.errors import IllegalMove

    if not desk.works_here:
        say(f"Job {job_id} goes on. Follow it: `pixmill jobs follow {job_id}`; end it: `pixmill jobs cancel {job_id}`.")
        return
    try:
        desk.pause(job_id)
    except IllegalMove:
        return  # it ended at that very moment
    # No figures: the workers finish what they have in hand, and then there are more.
    say(f"Job {job_id} is paused; nothing is lost. `pixmill jobs resume {job_id}` goes on.")
