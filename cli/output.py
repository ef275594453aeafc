"""The one place that prints: data on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import select
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import override

# Where no terminal gives a width, lines may be long: a pipe or a log folds nothing.
PIPE_WIDTH = 500


class Terminal(Console):
    """A console whose reader may go: that is no error."""

    @override
    def on_broken_pipe(self) -> None:
        """Let `to_pipe` or the command line's top end the command, instead of Rich, for which it failed."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


err = Terminal(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)
out = Terminal(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def program() -> str:
    """What the person types to start us: `./do pixmill` tells, so that our hints can be copied."""
    return os.environ.get("PIXMILL_COMMAND", "pixmill")


def _as_typed(text: str) -> str:
    return re.sub(r"(?<=`)pixmill(?= )|(?<=^  )pixmill(?= )", program(), text)


def interactive() -> bool:
    """Whether a person watches: stderr is a terminal that can be drawn on."""
    return err.is_terminal and not err.is_dumb_terminal and not os.environ.get("CI")


def say(text: str, style: str | None = None, *, to: Console = err) -> None:
    """A line for the person, on stderr unless it is what was asked for. The text is printed as it is."""
    to.print(escape(_as_typed(text)), style=style, soft_wrap=True)


def fail(text: str) -> None:
    """An error for the person, on stderr."""
    err.print(f"[bold red]Error:[/] {escape(_as_typed(text))}", soft_wrap=True)


@contextmanager
def to_pipe() -> Iterator[None]:
    """Around writes to stdout: a reader that has enough (`| head`) ends the command in peace."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        if not drop_unread():
            raise  # it was another pipe
        raise typer.Exit(0) from error


def drop_unread() -> set[str]:
    """Which of stdout and stderr nobody reads any more. What is still written there is dropped from then on."""
    streams = {"stdout": sys.stdout, "stderr": sys.stderr}
    gone = {name for name, stream in streams.items() if _is_broken(stream)}
    for name in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), streams[name].fileno())
    return gone


def _is_broken(stream: TextIO) -> bool:
    look = select.poll()
    try:
        look.register(stream.fileno(), 0)  # POLLERR is told without being asked for
    except (OSError, ValueError):  # closed, or none of the system's: a test's
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in look.poll(0))


def emit_json(value: Any) -> None:
    """One JSON object on stdout, on one line, safe for names that are not UTF-8. What is no finite number is null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a training that diverged: NaN and Infinity are no JSON
        text = json.dumps(_finite(value), ensure_ascii=False)
    with to_pipe():
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on stdout."""
    with to_pipe():
        out.print(make_table(columns, rows))


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Container[int] = ()) -> Table:
    """A table; numbers go to the right, and so do the columns of the places `right`."""
    table = Table(header_style="bold", box=None, pad_edge=False, show_header=any(columns))
    shown = [list(row) for row in rows]
    for n, column in enumerate(columns):
        numeric = bool(shown) and all(isinstance(row[n], (int, float)) or row[n] is None for row in shown)
        table.add_column(column, justify="right" if numeric or n in right else "left", overflow="fold")
    for row in shown:
        table.add_row(*(escape(_text(value)) for value in row))
    return table


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else visible(str(value))


def visible(text: str) -> str:
    """A text of others, safe for a terminal: control characters and line ends are shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def name_text(name: bytes) -> str:
    """A file name for people and for JSON: bytes that are not UTF-8 are shown as `\\xe9`."""
    return name.decode("utf-8", "backslashreplace")


def describe(pairs: Mapping[str, int], limit: int = 6) -> str:
    """Counts in one line, most first: `.txt 10, .db 2`."""
    ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(ordered) - limit} more kinds" if len(ordered) > limit else ""
    return ", ".join(f"{name} {count:,}" for name, count in ordered[:limit]) + more
