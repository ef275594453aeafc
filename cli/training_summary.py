"""How a training ended: the model, its best epoch, the test, its data, the report, and what to do next."""

from __future__ import annotations

from rich.console import Console

from cli.clock import between, clock
from cli.desk import Desk
from cli.measuring import print_headline
from cli.output import interactive, make_table, say
from cli.training_follow import LEAST_EPOCHS, curve_text
from cli.training_text import stage_text
from store.rows import JobRow
from store.run_facts import SPLITS
from store.run_rows import FindingRow, RunRow

LEAKS = 12  # shown of a list that may be long


def summarize_training(desk: Desk, row: JobRow, to: Console) -> None:
    """Print the summary of a finetune job."""
    run = desk.run_of_job(row.id)
    say(headline(run), _style(run), to=to)
    if row.error and run.state == "failed":
        say(row.error, "red", to=to)
    if row.trouble:
        say(row.trouble, "yellow", to=to)
    tell_leaks(desk, run, to)
    tell_data(run, row, to)
    if row.failed:
        say("Unreadable:", to=to)
        to.print(make_table(("failed as", "files", "for example"), desk.summary(row.id).failures))
    tell_curve(desk, run, to, only_live=True)
    tell_test(desk, run, to)
    if run.report_path:
        say(f"Report: {run.report_path}", to=to)
    say(desk.where)  # no part of what was asked for: it depends on where that is
    say(f"Next: {_next(run, row)}", to=to)


def headline(run: RunRow) -> str:
    """One line: how the run ended, or where it stands."""
    epochs = f"{run.epochs} of {run.epochs_planned} epoch{'s' if run.epochs_planned != 1 else ''}"
    best = f", the best is {run.best_epoch} ({_best(run)})" if run.best_epoch is not None else ""
    took = f"; {clock(between(run.started_at, run.finished_at))} in all" if run.finished_at and run.started_at else ""
    if run.state == "running":
        return f"Run {run.id} of {run.name} is running: {stage_text(run.stage)}; {epochs}{best}."
    if run.model is None:
        word = {"failed": "failed", "queued": "waits for a worker"}.get(run.state, f"is {run.state}")
        return f"Run {run.id} of {run.name} {word}: {epochs}{best}{took}."
    early = " was ended early" if run.state == "cancelled" else f" is {run.state}"
    return f"Run {run.id}{early}: {run.model} is ready. {epochs}{best}{took}."


def _best(run: RunRow) -> str:
    value = f" {run.best_value:.4f}" if run.best_value is not None else ""
    return f"{run.monitor.replace('val_', 'validation ')}{value}"


def _style(run: RunRow) -> str:
    return "bold green" if run.model is not None and run.state == "done" else "bold"


def tell_data(run: RunRow, row: JobRow | None, to: Console) -> None:
    """One line: pictures per split, and what was found odd about them."""
    if run.images_train is None:
        return
    splits = [f"{run.images_train:,} train"]
    splits += [
        f"{count:,} {name}" for count, name in ((run.images_val, "validation"), (run.images_test, "test")) if count
    ]
    found = [
        (row.failed if row else 0, "unreadable"),
        (run.census.get("identical"), "identical to another"),
        (run.census.get("near"), "nearly identical to another"),
        (run.census.get("conflicts"), "pairs with two labels"),
        (run.census.get("leaks"), "leaked"),
    ]
    odd = [f"{count:,} {what}" for count, what in found if count]
    say("Data: " + " · ".join(splits) + (f" ({', '.join(odd)})" if odd else ""), to=to)
    if small := run.census.get("small"):
        named = ", ".join(f"{label} {count}" for label, count in list(small.items())[:LEAKS])
        say(f"Classes with few pictures: {named}.", "yellow", to=to)


def tell_leaks(desk: Desk, run: RunRow, to: Console) -> None:
    """Where the gate stopped a run: the list, and what to do."""
    if run.state != "failed" or run.options.get("allow_leaks") or not run.census.get("leaks"):
        return
    leaks = [finding for finding in desk.findings(run.id) if finding.kind == "leak"]
    rows = (leak_row(finding) for finding in leaks[:LEAKS])
    to.print(make_table(("picture", "in", "the same as", "in", "how"), rows))
    if len(leaks) > LEAKS:
        say(f"and {len(leaks) - LEAKS:,} more: `pixmill runs findings {run.id}`", to=to)


def leak_row(finding: FindingRow) -> tuple[str, str, str, str, str]:
    """A leak as a line of a table."""
    how = "same bytes" if not finding.distance else f"nearly, distance {finding.distance:g}"
    how = finding.detail or how
    return (
        finding.path or "?",
        SPLITS.get(finding.split or "", "?"),
        finding.other_path or "?",
        SPLITS.get(finding.other_split or "", "?"),
        how,
    )


def tell_curve(desk: Desk, run: RunRow, to: Console, *, only_live: bool = False) -> None:
    """The curve as text. `only_live`: only where it was drawn as it grew; elsewhere its lines are printed already."""
    if only_live and not interactive():
        return
    epochs = desk.epochs(run.id)
    if len(epochs) >= LEAST_EPOCHS:
        width = to.width if to.is_terminal else 100
        say(f"\n{curve_text(epochs, width)}\n", to=to)


def tell_test(desk: Desk, run: RunRow, to: Console) -> None:
    """The figures of the run's evaluation, with the pairs of classes confused the most."""
    if run.evaluation_job_id is None:
        return
    measured = desk.measure(run.evaluation_job_id)
    if measured is not None:
        print_headline(measured, tested_on(desk, run), to)


def tested_on(desk: Desk, run: RunRow) -> str:
    """What a run was evaluated on, in a word that begins a line."""
    return str(desk.run_record(run)["evaluated_on"] or "evaluation").capitalize()


def _next(run: RunRow, row: JobRow) -> str:
    if run.model is not None and row.state.is_final:
        name = run.model.partition("@")[0]
        again = f" · `pixmill results {row.id} --status failed`" if row.failed else ""
        return f"`pixmill classify FOLDER --model {name}` · `pixmill runs show {run.id}`{again}"
    if run.state == "failed" and run.census.get("leaks") and not run.options.get("allow_leaks"):
        return "take them out of one side and start anew, or train all the same: `pixmill finetune … --allow-leaks`"
    if run.state == "failed":
        further = "; it goes on from its last checkpoint" if run.checkpoint is not None else ""
        return f"`pixmill jobs retry {row.id}` once the cause is gone{further}"
    if run.state == "paused":
        return f"`pixmill jobs resume {row.id}`"
    if run.state == "cancelled":
        return f"`pixmill jobs retry {row.id}` goes on after all"
    return f"`pixmill jobs follow {row.id}` shows it, and works on it where no worker does"
