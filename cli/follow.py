"""Following a job: found · done · failed · images per second · time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.progress import BarColumn, Progress, TextColumn

from cli.output import err, interactive, say
from store.database import Database
from store.insights import job as read_job
from store.rows import JobRow
from store.states import JobState

POLL_S = 0.1
PLAIN_S = 10.0  # between lines where nobody watches a terminal
WINDOW_S = 10.0  # over which the speed is measured


class Speed:
    """Images per second over the last seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def note(self, done: int, now: float) -> None:
        """Note how many are done at a time."""
        self._points.append((now, done))
        while now - self._points[0][0] > WINDOW_S and len(self._points) > 2:
            self._points.popleft()

    @property
    def rate(self) -> float:
        """Images per second; 0 while unknown."""
        (first, before), (last, after) = self._points[0], self._points[-1]
        return (after - before) / (last - first) if last > first else 0.0

    def left(self, pending: int) -> str:
        """The time left, for people."""
        return clock(pending / self.rate) if self.rate > 0 else "–"


def clock(seconds: float) -> str:
    """Seconds as `0:42` or `3:10:05`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


Show = Callable[[JobRow, Speed], None]


def follow(database: Database, job_id: int, check: Callable[[], None]) -> JobRow:
    """Show a job's progress until it ends or is paused; returns how it stands then. Raises UnknownJob.

    `check` is called while waiting; what it raises ends the wait.
    """

    def watch(show: Show) -> JobRow:
        return _watch(database, job_id, show, check)

    return _follow_bar(job_id, watch) if interactive() else _follow_lines(watch)


def _watch(database: Database, job_id: int, show: Show, check: Callable[[], None]) -> JobRow:
    speed = Speed()
    while True:
        check()
        row = read_job(database, job_id)
        speed.note(row.classified + row.failed, time.monotonic())
        show(row, speed)
        if row.state.is_final or row.state is JobState.PAUSED:
            return row
        time.sleep(POLL_S)


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
