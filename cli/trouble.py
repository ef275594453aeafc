"""What a followed job waits for, told when it begins and when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cli.output import say
from store.rows import JobRow


def tell_trouble(rows: Iterable[JobRow]) -> Iterator[JobRow]:
    """The same rows; what a job waits for is told when it begins, and that it goes on once it does."""
    told, done = None, 0
    for row in rows:
        if row.trouble is not None and row.trouble != told:
            say(f"job {row.id}: {row.trouble}", "yellow")
            told, done = row.trouble, row.classified + row.failed
        has_moved = row.classified + row.failed > done or row.kind == "finetune"
        if row.trouble is None and told is not None and has_moved:
            say(f"job {row.id}: there is space again, it goes on", "yellow")
            told = None
        yield row
