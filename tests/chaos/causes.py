"""What faults may bring about beside lost time: failed attempts, tracebacks, refusals. The rest is a finding.

Each cause names the faults that it comes from; without one of them in the run it explains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PROCESSES = ("kill_", "end_", "stop_", "memory_", "failpoint_")
# Whoever stands still or dies in a transaction holds its locks for a while.
DATABASE = ("sqlite_", "pg_", "failpoint_", "stop_")
BROKER = ("broker_",)
START = "Traceback (most recent call last):"
FATAL = "Fatal Python error"
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
CUT = "cut short"
FRAME = re.compile(r'[| ]*File ".+", line \d+, in ')
# SIGSEGV, say, would be one of ours: nobody sends that.
TRAINER = r"the trainer was ended by SIG(KILL|TERM) "


class Cause(NamedTuple):
    """Words that a fault explains. `faults`: how the names of those begin that bring it about."""

    words: str
    faults: tuple[str, ...]

    def explains(self, said: str, befell: Collection[str]) -> bool:
        """Whether it is that, and one of its faults befell the run."""
        return re.search(self.words, said) is not None and any(name.startswith(self.faults) for name in befell)


# A lease that was lost to a fault has the outcome `lost`, work that was given back `released`: neither has failed.
ATTEMPTS = (
    Cause(rf"^{TRAINER}", PROCESSES),
    Cause(r"^DatabaseUnavailable: ", DATABASE),  # of a training, which is not given back then
    Cause(r"^the trainer ended with status 1 (?s:.*)The failpoint \S+ was told to fail", ("failpoint_",)),
)
TRACEBACKS = (
    Cause(r"^billiard\.", PROCESSES),  # the parent of a worker tells that its child is gone
    Cause(r"^redis\.exceptions\.", BROKER),
    # Celery's pool, where a child is killed while its parent connects anew; the supervisor starts the parent again.
    Cause(r"^StopIteration in get_process_queues$", ("kill_", "failpoint_", "memory_")),
    Cause(rf"TrainerDied: {TRAINER}", PROCESSES),
    Cause(
        r"^(store\.errors\.DatabaseUnavailable|sqlalchemy\.exc\.OperationalError|psycopg\.OperationalError)", ("pg_",)
    ),
)

# What a person may hear who submits and gets no job, with the exit status of the command. One whom a failpoint killed
# hears nothing: that is known by its process.
SUBMISSIONS = (
    Cause(r"^status 3: (?s:.*)No space left for the database", ("sqlite_full",)),
    Cause(r"^status 3: (?s:.*)stayed locked by another program", DATABASE),
    Cause(r"^status 3: (?s:.*)The failpoint \S+ was told to fail", ("failpoint_",)),
    Cause(r"^status 3: (?s:.*)The database postgresql\S+ cannot be reached: ", ("pg_",)),
    Cause(r"^status 3: (?s:.*)Another transaction was in the way", DATABASE),
)


def unexplained(said: Iterable[str], causes: Collection[Cause], befell: Collection[str]) -> list[str]:
    """What none of the causes explains."""
    return [words for words in said if not any(cause.explains(words, befell) for cause in causes)]


def tracebacks(log: str) -> Iterator[str]:
    """What each traceback of a log was raised for. Of a chain the last one, which is what reached the log."""
    lines = log.splitlines()
    for at, line in enumerate(lines):
        if FATAL in line:
            yield line[line.index(FATAL) :]
        elif line.lstrip("| ").startswith(START):
            end = _end(lines, at)
            if not any(words in text for text in lines[end + 1 : end + 4] for words in CHAINED):
                yield _raised(lines[at:end], lines[end].strip("| ")) if end < len(lines) else CUT


def _raised(above: list[str], exception: str) -> str:
    """The exception; of one without a word of its own also the function that it comes from."""
    frames = [text for text in above if FRAME.match(text)]
    return f"{exception} in {frames[-1].rsplit(' in ', 1)[1]}" if exception.isidentifier() and frames else exception


def _end(lines: list[str], start: int) -> int:
    """Where the line with the exception is: the first that stands no deeper than the traceback's own."""
    depth = _depth(lines[start])
    return next(
        (at for at in range(start + 1, len(lines)) if lines[at].strip() and _depth(lines[at]) <= depth), len(lines)
    )


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip("| "))


def odd_tracebacks(logs: Iterable[Path], befell: Collection[str]) -> Iterator[str]:
    """Tracebacks that no fault explains, each with its log's name."""
    for path in logs:
        found = tracebacks(path.read_text(errors="replace"))
        yield from (f"{path.name}: {words}" for words in unexplained(found, TRACEBACKS, befell))
