"""How a job ended: totals that add up, classes, failures by reason, where it all is, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from cli.clock import between, clock
from cli.desk import Desk
from cli.errors import Exit
from cli.output import describe, err, make_table, say
from store.records import job_record
from store.rows import JobRow
from store.states import JobState

if TYPE_CHECKING:
    from store.facets import Summary

CLASSES = 8

ENDS = {
    JobState.DONE: Exit.OK,
    JobState.DONE_WITH_ERRORS: Exit.WITH_FAILURES,
    JobState.CANCELLED: Exit.CANCELLED,
    JobState.CANCELLING: Exit.CANCELLED,
    JobState.PAUSED: Exit.CANCELLED,
    JobState.FAILED: Exit.UNEXPECTED,
}


def end_code(row: JobRow) -> Exit:
    """The exit code for a job's state."""
    return ENDS.get(row.state, Exit.OK)


def job_json(desk: Desk, row: JobRow) -> dict[str, Any]:
    """A job for `--json`, a training with its run."""
    if row.kind != "finetune":
        return job_record(row)
    return {**job_record(row), "run": desk.run_record(desk.run_of_job(row.id))}


def in_short(row: JobRow) -> str:
    """A job's end in one line."""
    failed = f"; {row.failed:,} failed" if row.failed else ""
    if row.kind == "finetune":
        return f"Job {row.id} is {row.state.value.replace('_', ' ')}{failed}."
    return f"Job {row.id}: {row.classified:,} of {row.found:,} classified{failed}."


def summarize(desk: Desk, row: JobRow, to: Console = err) -> None:
    """Print the summary of a job; on stderr, unless it is what was asked for."""
    if row.kind == "finetune":
        from cli.training_summary import summarize_training

        summarize_training(desk, row, to)
        return
    say(f"Job {row.id} {_state(row)}: {_totals(row)}", to=to)
    say(f"{row.description[:1].upper()}{row.description[1:]} · model {row.model}", to=to)
    if row.error:
        say(row.error, "red", to=to)
    if row.ignored:
        say(f"Passed over: {describe(row.ignored)}.", to=to)
    if row.trouble:
        say(row.trouble, "yellow", to=to)
    if row.max_failures is not None and not row.state.is_final:
        say(_limit(row.max_failures), to=to)
    _print_outcome(row, desk.summary(row.id), to)
    say(f"\n{desk.where}")  # no part of what was asked for: it depends on where that is
    say(f"Next: {_next(row)}", to=to)


def _limit(text: str) -> str:
    """How many images may fail, of a job that is open."""
    if text == "none":
        return "However many images fail, it goes on."
    most = f"{int(text):,} images" if text.isdecimal() else f"{text} of the images"
    return f"Stops once more than {most} failed."


def _print_outcome(row: JobRow, found: Summary, to: Console) -> None:
    if row.classified:
        more = " (the most frequent)" if len(found.classes) > CLASSES else ""
        say(f"\nClasses{more}:", to=to)
        to.print(make_table(("class", "images"), found.classes[:CLASSES]))
        right, labelled = found.agreement
        if labelled:
            say(f"\nAgreement with the given labels: {right:,} of {labelled:,} = {right / labelled:.4f}", to=to)
    if row.failed:
        say("\nFailures by reason:", to=to)
        to.print(make_table(("failed as", "images", "for example"), found.failures))


def _state(row: JobRow) -> str:
    return {JobState.DONE: "is done", JobState.DONE_WITH_ERRORS: "is done with errors"}.get(
        row.state, f"is {row.state.value.replace('_', ' ')}"
    )


def _totals(row: JobRow) -> str:
    parts = [f"{row.found:,} found = {row.classified:,} classified + {row.failed:,} failed"]
    if row.pending:
        parts.append(f" + {row.pending:,} not run")
    if row.reused:
        parts.append(f" ({row.reused:,} answers reused)")
    if row.started_at and row.finished_at:
        seconds = max(between(row.started_at, row.finished_at), 0.001)
        done = row.classified + row.failed - row.done_before  # after a retry, the times are of what ran since
        again = f"; {done:,} of them since the retry" if row.done_before else ""
        parts.append(f"{again} in {clock(seconds)}, {done / seconds:,.0f} img/s")
    return "".join(parts)


def _next(row: JobRow) -> str:
    if row.state is JobState.PAUSED:
        return f"`pixmill jobs resume {row.id}`"
    if not row.state.is_final:
        return f"`pixmill jobs follow {row.id}` shows it, and works on it where no worker does"
    if row.state is JobState.FAILED:
        rest = f"; `pixmill jobs resume {row.id}` leaves alone what failed" if row.failed and row.pending else ""
        return f"`pixmill jobs retry {row.id}` once the cause is gone{rest}"
    if row.failed and not row.classified:
        return f"`pixmill results {row.id} --status failed`"
    if row.failed:
        return f"`pixmill results {row.id} --status failed` lists them; `pixmill jobs retry {row.id}` runs them again"
    return f"`pixmill results {row.id}` · `pixmill sort {row.id} DEST` · `pixmill sql QUERY`"
