"""Following a job: found · done · failed · images per second · time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.progress import BarColumn, Progress, TextColumn

from cli.desk import Check, Desk
from cli.output import err, interactive, say
from cli.speed import Speed
from cli.trouble import tell_trouble
from store.rows import JobRow

PLAIN_S = 10.0  # between lines where nobody watches a terminal


Show = Callable[[JobRow, Speed], None]


def follow(desk: Desk, job_id: int, check: Check) -> JobRow:
    """Show a job's progress until it ends or is paused; returns how it stands then.

    `check` is called while waiting; what it raises ends the wait.
    """
    if desk.job(job_id).kind == "finetune":
        from cli.training_follow import follow_training

        return follow_training(desk, job_id, check)

    def watch(show: Show) -> JobRow:
        speed = Speed()
        for row in tell_trouble(desk.watch(job_id, check)):
            speed.note(row.classified + row.failed, time.monotonic())
            show(row, speed)
        return row

    return _follow_bar(job_id, watch) if interactive() else _follow_lines(watch)


def _follow_bar(job_id: int, watch: Callable[[Show], JobRow]) -> JobRow:
    columns = (
        TextColumn("job {task.fields[job]}"),
        BarColumn(bar_width=28),
        TextColumn(
            "{task.total:,.0f} found · {task.completed:,.0f} done · {task.fields[failed]:,} failed · "
            "{task.fields[rate]:,.0f} img/s · {task.fields[left]} left"
        ),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=0, job=job_id, failed=0, rate=0.0, left="–")

        def show(row: JobRow, speed: Speed) -> None:
            progress.update(
                task,
                total=row.found,
                completed=row.classified + row.failed,
                failed=row.failed,
                rate=speed.rate,
                left=speed.left(row.pending),
            )

        return watch(show)


def _follow_lines(watch: Callable[[Show], JobRow]) -> JobRow:
    next_line = time.monotonic() + PLAIN_S

    def show(row: JobRow, speed: Speed) -> None:
        nonlocal next_line
        if time.monotonic() >= next_line and not row.state.is_final:
            next_line += PLAIN_S
            done = row.classified + row.failed
            say(
                f"job {row.id}: {row.found:,} found · {done:,} done · {row.failed:,} failed · "
                f"{speed.rate:,.0f} img/s · {speed.left(row.pending)} left"
            )

    return watch(show)
