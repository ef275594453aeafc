"""Following a training: its curve and a live bar on a terminal, a line per stage and epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from cli.desk import Check, Desk
from cli.output import err, interactive, say
from cli.speed import Speed
from cli.training_text import best_so_far, epoch_line, how_far, now_text, stage_text
from cli.trouble import tell_trouble

if TYPE_CHECKING:
    from store.rows import JobRow
    from store.run_rows import EpochRow, RunRow

PLAIN_S = 10.0  # between lines of one stage where nobody watches a terminal
LEAST_EPOCHS = 3  # before a curve says anything
CURVE_HEIGHT = 8  # lines of each of its two panels
ROOM = 2 * CURVE_HEIGHT + 12  # lines of a terminal below which there is only the bar
WIDEST = 140


@dataclass(frozen=True, slots=True)
class Look:
    """How a training stands at one moment."""

    run: RunRow
    epochs: Sequence[EpochRow]
    rate: float = 0.0  # pictures per second of a stage that counts them
    left: str = "–"


Show = Callable[[Look, float], None]


def follow_training(desk: Desk, job_id: int, check: Check) -> JobRow:
    """Show a training until its job ends or is paused; returns how the job stands then.

    `check` is called while waiting; what it raises ends the wait.
    """
    with _drawn() if interactive() else _printed() as show:
        return _watch(desk, job_id, show, check)


def _watch(desk: Desk, job_id: int, show: Show, check: Check) -> JobRow:
    stage, speed = "", Speed()
    for row in tell_trouble(desk.watch(job_id, check)):
        run = desk.run_of_job(row.id)  # asked after the job, and so at least as new
        now = time.monotonic()
        if run.stage != stage:
            stage, speed = run.stage, Speed()
        done, total, _ = how_far(run)
        speed.note(int(done), now)
        show(Look(run, desk.epochs(run.id), speed.rate, speed.left(int(total - done))), now)
    return row


class Lines:
    """The lines for where nobody watches a terminal: each epoch once, each stage when it begins, and now and then."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._told: set[tuple[int, int]] | None = None
        self._due = 0.0

    def of(self, look: Look, now: float) -> Iterator[str]:
        """What is new at this look; `now` in seconds of any clock that goes on."""
        run = look.run
        for line in self._epochs(run, look.epochs):
            self._due = now + PLAIN_S
            yield line
        if run.state != "running":
            return
        if run.stage != self._stage:
            self._stage, self._due = run.stage, now + PLAIN_S
            if run.stage != "training":
                yield f"run {run.id} · {stage_text(run.stage)}"
        elif now >= self._due and how_far(run)[1]:  # a line that says no more than the one before is none
            self._due = now + PLAIN_S
            yield f"run {run.id} · {_beside(look, *how_far(run))}"

    def _epochs(self, run: RunRow, epochs: Sequence[EpochRow]) -> Iterator[str]:
        if self._told is None:
            self._told = {(epoch.epoch, epoch.attempt) for epoch in epochs}
            if epochs:
                kept = next((f", the best is {epoch.epoch}" for epoch in epochs if epoch.is_best), "")
                yield f"run {run.id} · {len(epochs)} of {run.epochs_planned} epochs so far{kept}"
        for epoch, best in zip(epochs, best_so_far(run, epochs), strict=True):
            if (epoch.epoch, epoch.attempt) not in self._told:
                self._told.add((epoch.epoch, epoch.attempt))
                yield epoch_line(run, epoch, best=best)


def _beside(look: Look, done: float, total: float, words: str) -> str:
    """The words and numbers of the bar."""
    if look.run.stage == "training":
        patience = look.epochs[-1].patience_left if look.epochs else None
        return " · ".join(part for part in (words, now_text(look.run.progress, patience)) if part)
    if not total:
        return words
    speed = f" · {look.rate:,.0f} img/s · {look.left} left" if look.rate else ""
    return f"{words} · {done:,.0f} of {total:,.0f}{speed}"


@contextmanager
def _printed() -> Iterator[Show]:
    lines = Lines()

    def show(look: Look, now: float) -> None:
        for line in lines.of(look, now):
            say(line)

    yield show


@contextmanager
def _drawn() -> Iterator[Show]:
    """The curve with the bar below it, redrawn in place; both are gone at the end, where the summary follows."""
    columns = (TextColumn("run {task.fields[run]}"), BarColumn(bar_width=24), TextColumn("{task.description}"))
    bar = Progress(*columns, console=err)
    task = bar.add_task("waits for a worker", run="–", total=None)
    with Live(bar, console=err, transient=True, refresh_per_second=8) as live:

        def show(look: Look, _: float) -> None:
            done, total, words = how_far(look.run)
            described = _beside(look, done, total, words) if look.run.state == "running" else look.run.state
            bar.update(task, run=look.run.id, completed=done, total=total or None, description=described)
            live.update(_with_curve(look, bar))

        yield show


def _with_curve(look: Look, bar: Progress) -> RenderableType:
    if len(look.epochs) < LEAST_EPOCHS or err.height < ROOM:
        return bar
    return Group(Text(curve_text(look.epochs, err.width, CURVE_HEIGHT), no_wrap=True), Text(""), bar)


def curve_text(epochs: Sequence[EpochRow], width: int, height: int = 10) -> str:
    """Loss and accuracy over the epochs, drawn with characters, with marks at the restarts and the best epoch."""
    from worker.reporting.text import curve

    restarts = [epoch.epoch for epoch in epochs if epoch.restarted]
    return curve(epochs, restarts, width=min(width, WIDEST), height=height)
