"""How a job ended: totals that add up, classes, failures by reason, where it all is, and what to do next."""

from __future__ import annotations

from rich.console import Console

from cli.clock import clock
from cli.errors import Exit
from cli.output import describe, err, make_table, say
from store.database import Database
from store.insights import agreement, classes, failures
from store.rows import JobRow
from store.states import JobState

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


def as_json(row: JobRow) -> dict[str, object]:
    """A job for `--json`."""
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state.value,
        "description": row.description,
        "model": row.model,
        "found": row.found,
        "classified": row.classified,
        "failed": row.failed,
        "reused": row.reused,
        "pending": row.pending,
        "ignored": row.ignored,
        "priority": row.priority,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "error": row.error,
    }


def job_json(database: Database, row: JobRow) -> dict[str, object]:
    """A job for `--json`, a training with its run."""
    if row.kind != "finetune":
        return as_json(row)
    from cli.training_summary import run_json
    from store.runs import run_of_job

    return {**as_json(row), "run": run_json(database, run_of_job(database, row.id))}


def summarize(database: Database, row: JobRow, to: Console = err) -> None:
    """Print the summary of a job; on stderr, unless it is what was asked for."""
    if row.kind == "finetune":
        from cli.training_summary import summarize_training

        summarize_training(database, row, to)
        return
    say(f"Job {row.id} {_state(row)}: {_totals(row)}", to=to)
    say(f"{row.description[:1].upper()}{row.description[1:]} · model {row.model}", to=to)
    if row.error:
        say(row.error, "red", to=to)
    if row.ignored:
        say(f"Passed over: {describe(row.ignored)}.", to=to)
    if row.classified:
        shown = classes(database, row.id, CLASSES + 1)
        more = " (the most frequent)" if len(shown) > CLASSES else ""
        say(f"\nClasses{more}:", to=to)
        to.print(make_table(("class", "images"), shown[:CLASSES]))
        right, labelled = agreement(database, row.id)
        if labelled:
            say(f"\nAgreement with the given labels: {right:,} of {labelled:,} = {right / labelled:.4f}", to=to)
    if row.failed:
        reasons = failures(database, row.id)
        say("\nFailures by reason:", to=to)
        to.print(make_table(("failed as", "images", "for example"), reasons))
    say(f"\nDatabase: {database.where}", to=to)
    say(f"Next: {_next(row)}", to=to)


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
        seconds = max(row.finished_at - row.started_at, 0.001)
        parts.append(f" in {clock(seconds)}, {(row.classified + row.failed) / seconds:,.0f} img/s")
    return "".join(parts)


def _next(row: JobRow) -> str:
    if row.state is JobState.PAUSED:
        return f"`pixmill jobs resume {row.id}`"
    if not row.state.is_final:
        return f"`pixmill jobs follow {row.id}` shows it, and works on it where no worker does"
    if row.state is JobState.FAILED:
        return f"`pixmill jobs retry {row.id}` once the cause is gone"
    if row.failed and not row.classified:
        return f"`pixmill results {row.id} --status failed`"
    if row.failed:
        return f"`pixmill results {row.id} --status failed` lists them; `pixmill jobs retry {row.id}` runs them again"
    return f"`pixmill results {row.id}` · `pixmill sort {row.id} DEST` · `pixmill sql QUERY`"
