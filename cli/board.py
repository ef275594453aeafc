"""What `pixmill up` shows: a table that is drawn again in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.output import err, interactive, say, visible
from cli.standing import JobLine, Look, PartLine

PLAIN_S = 10.0  # between lines of a job where nobody watches a terminal
WIDEST = 110
NARROW = 100  # below which bars are short
MARKS = {"well": "[green]●[/]", "soon": "[yellow]◐[/]", "ill": "[red]✗[/]"}

Show = Callable[[Look], None]


@contextmanager
def board() -> Iterator[Show]:
    """Give the function that shows a look; what was drawn is gone at the end."""
    if not interactive():
        lines = Lines()

        def tell(look: Look) -> None:
            for line in lines.of(look, time.monotonic()):
                say(line)

        yield tell
        return
    with Live(Text(""), console=err, transient=True, refresh_per_second=8) as live:

        def show(look: Look) -> None:
            for line in look.news:
                say(visible(line))
            live.update(draw(look, min(err.width, WIDEST)))

        yield show


def draw(look: Look, width: int) -> RenderableType:
    """The table of parts, and below it a bar for each open job; `width` in columns."""
    blocks: list[RenderableType] = [Text("─" * width, style="dim"), _parts(look, width)]
    if look.trouble:
        blocks.append(Text(f"  {look.trouble}", style="red"))
    elif look.jobs:
        blocks += [Text(""), _jobs(look.jobs, width)]
    if look.waiting:
        blocks.append(Text(f"  {look.waiting:,} job{'s' if look.waiting > 1 else ''} waiting", style="dim"))
    elif not look.jobs and not look.trouble:
        blocks += [Text(""), Text("  No job is open.", style="dim")]
    return Group(*blocks)


def _parts(look: Look, width: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.width = width
    table.add_column(width=1)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=5)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=5)
    table.add_column(no_wrap=True, justify="right", min_width=max((len(part.speed) for part in look.parts), default=0))
    for part in look.parts:
        table.add_row(MARKS[part.mood], part.kind, escape(visible(part.where)), _state(part), part.speed)
    return table


def _state(part: PartLine) -> str:
    style = {"well": "green", "soon": "yellow", "ill": "red"}[part.mood] if part.state != "idle" else "dim"
    model = f" [dim]{escape(visible(part.what))}[/]" if part.what else ""
    return f"[{style}]{escape(visible(part.state))}[/]{model}"


def _jobs(jobs: tuple[JobLine, ...], width: int) -> Table:
    bar_width = 14 if width < NARROW else 30
    table = Table.grid(padding=(0, 1, 0, 0))
    table.width = width
    table.add_column(width=1)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(width=bar_width)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs:
        bar = ProgressBar(total=job.total or None, completed=job.done, width=bar_width, pulse=not job.total)
        table.add_row("", job.name, bar, escape(visible(" · ".join(job.words))))
    return table


class Lines:
    """The lines for a log: each part when it becomes well or is given up, each job now and then."""

    def __init__(self) -> None:
        self._moods: dict[tuple[str, str], str] = {}
        self._trouble = ""
        self._due: dict[int, float] = {}

    def of(self, look: Look, now: float) -> Iterator[str]:
        """What is new at this look; `now` in seconds of any clock that goes on."""
        for part in look.parts:
            place = (part.kind, part.where)
            if part.mood != self._moods.get(place, "soon") and part.mood != "soon":
                state = "ready" if part.state in ("idle", "busy") else part.state
                yield visible(f"{part.kind} {part.where}: {state}")
            self._moods[place] = part.mood
        if look.trouble and not self._trouble:
            yield visible(look.trouble)
        self._trouble = look.trouble
        yield from map(visible, look.news)
        for job in look.jobs:
            if now >= self._due.setdefault(job.id, now + PLAIN_S):
                self._due[job.id] = now + PLAIN_S
                yield visible(f"{job.name}: {' · '.join(job.words)}")
