"""How many images of a job may fail: the limit as a person says it, and whether a job is past it.

Judged from the job's tallies, some forty rows whatever its size, so that it costs nothing beside a commit.
"""

import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from sqlalchemy import Connection, func, literal_column, select

from store.paths import from_columns
from store.states import JobKind
from store.tables import events, items, jobs, results, tallies

FAILED = results.c.status == literal_column("'failed'")  # as their index says it
FEWEST = 100  # images worked on before a share of them is judged
FIRST_FEWEST, FIRST_MOST, FIRST_SHARE = 200, 2000, 16  # the first images: a sixteenth of the job, within these
FIRST_POISONED = 10  # of those that were set aside because workers died; each costs minutes
NONE = "none"
PATTERN = r"^(none|[0-9]{1,15}|(100(\.0{1,3})?|[0-9]{1,2}(\.[0-9]{1,3})?)%)$"
EXPECTED = "expected a number of images (500), a share of them (5%), or none"

# Where every image fails like this, the cause is hardly in the images: documented in docs/failures.md.
COMMON_CAUSES = frozenset(
    {
        "missing",
        "permission",
        "outside_root",
        "io_error",
        "changed",
        "timed_out",
        "out_of_memory",
        "model_error",
        "worker_died",
    }
)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` failed images, or `percent` of those worked on; neither: any number. `text` says the same."""

    text: str
    most: int | None = None
    percent: Decimal | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """What a person wrote: 500, 5%, none. Raises ValueError."""
        said = text.strip().lower().replace(" ", "")
        if re.fullmatch(PATTERN, said) is None:
            raise ValueError(f"{EXPECTED}, got {text!r}")
        if said == NONE:
            return cls(NONE)
        if not said.endswith("%"):
            return cls(str(int(said)), most=int(said))
        percent = Decimal(said[:-1])
        return cls(f"{percent.normalize():f}%", percent=percent)

    def allows(self, ok: int, failed: int) -> bool:
        """Whether a job with so many images of each kind may go on."""
        if self.most is not None:
            return failed <= self.most
        if self.percent is not None and ok + failed >= FEWEST:
            return 100 * failed <= self.percent * (ok + failed)
        return True


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a job stops. `limit` None: all of the images so far failed as `code`."""

    limit: str | None
    ok: int
    failed: int
    code: str  # the commonest
    count: int  # of it


def first_images(found: int) -> int:
    """How many images of a job must all fail the same way before that stops it."""
    return min(FIRST_MOST, max(FIRST_FEWEST, found // FIRST_SHARE))


def judge(connection: Connection, job_id: int) -> Verdict | None:
    """Why a classify job should stop; None where it may go on."""
    job = connection.execute(select(*jobs.c["kind", "max_failures", "n_items"]).where(jobs.c.id == job_id)).first()
    if job is None or job.kind != JobKind.CLASSIFY or job.max_failures == NONE:
        return None
    ok, codes = _counts(connection, job_id)
    failed = codes.total()
    if not failed:
        return None
    code, count = codes.most_common(1)[0]
    if job.max_failures is not None:
        past = not Limit.of(job.max_failures).allows(ok, failed)
    else:
        past = ok == 0 and count == failed and code in COMMON_CAUSES
        past = past and (failed >= first_images(job.n_items) or _are_poisoned(connection, job_id, failed))
    return Verdict(job.max_failures, ok, failed, code, count) if past else None


def _are_poisoned(connection: Connection, job_id: int, failed: int) -> bool:
    """Whether the sweeper set these images aside, because no worker survived them: hardly a decoder's doing."""
    query = select(func.count()).where(events.c.job_id == job_id, events.c.kind == "poisoned")
    return failed >= FIRST_POISONED and int(connection.scalar(query) or 0) >= FIRST_POISONED


def _counts(connection: Connection, job_id: int) -> tuple[int, Counter[str]]:
    """Classified images (each one's score is counted in a twentieth), and the failed ones by code."""
    query = select(*tallies.c["kind", "value", "n"]).where(
        tallies.c.job_id == job_id, tallies.c.kind.in_(("score", "error_code")), tallies.c.n > 0
    )
    ok, codes = 0, Counter[str]()
    for kind, value, n in connection.execute(query):
        if kind == "score":
            ok += n
        else:
            codes[value] += n
    return ok, codes


def explain(connection: Connection, job_id: int, verdict: Verdict) -> str:
    """What a person needs to know of a job that stopped: why, an example, and how to go on."""
    why = _why(verdict)
    example = _example(connection, job_id, verdict.code)
    return (
        f"{why}{f', for example {example}' if example else '.'} Once the cause is gone, `pixmill jobs retry {job_id}` "
        f"runs these images again, and the rest. `pixmill jobs resume {job_id}` goes on with the rest anyway; with "
        "--max-failures N, P% or none, either sets another limit."
    )


def _why(verdict: Verdict) -> str:
    done = verdict.ok + verdict.failed
    if verdict.limit is None:
        return f"Stopped early: all of the first {verdict.failed:,} images failed as {verdict.code}"
    most = f"{int(verdict.limit):,}" if verdict.limit.isdecimal() else verdict.limit
    return (
        f"Stopped: {verdict.failed:,} of {done:,} images failed, and at most {most} may. "
        f"Most often as {verdict.code} ({verdict.count:,})"
    )


def _example(connection: Connection, job_id: int, code: str) -> str:
    """The first image that failed so, with what was said of it."""
    query = (
        select(*jobs.c["root", "root_raw"], *items.c["path", "path_raw", "member"], results.c.error)
        .join(items, (items.c.job_id == results.c.job_id) & (items.c.idx == results.c.idx))
        .join(jobs, jobs.c.id == results.c.job_id)
        .where(results.c.job_id == job_id, FAILED, results.c.error_code == code)
        .order_by(results.c.idx)
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return ""
    path = posixpath.join(from_columns(row.root, row.root_raw), from_columns(row.path, row.path_raw))
    name = path.decode("utf-8", "backslashreplace")
    return f"{name}{f'!/{row.member}' if row.member else ''}: {row.error}"
