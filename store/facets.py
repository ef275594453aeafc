"""What there is to choose from: counts of a job's labels, failures, scores and agreement under a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Select,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from store.database import Database
from store.insights import read_job
from store.joining import InOrder
from store.narrowing import Part
from store.question import Question, question
from store.results import FAILED, OF_ITEMS, Filter, Head, check_there, head_of, named_conditions, score_range
from store.rows import JobRow
from store.tables import items, results, tallies
from store.tallies import BINS, tallies_of

WINDOW = 500  # rows that counts under a filter look at, as the rows of a page do
MOST_CODES = 100  # there are some thirty error codes


class _whole(FunctionElement[int]):  # noqa: N801  a SQL function, named like SQLAlchemy's own
    """A number that is not negative, without its fraction. (SQLAlchemy's floor calls Python for each row in SQLite.)"""

    type = Integer()
    inherit_cache = True


@compiles(_whole, "sqlite")
def _sqlite_whole(element: _whole, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(_whole, "postgresql")
def _postgresql_whole(element: _whole, compiler: Any, **options: Any) -> str:
    return f"CAST(FLOOR({compiler.process(element.clauses, **options)}) AS INTEGER)"


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts of the results that a filter chooses. `exact` is False where only the first `seen` rows were looked at."""

    status: dict[str, int]
    labels: list[tuple[str, int]]
    error_codes: list[tuple[str, int]]
    agreement: dict[str, int]  # right, wrong, unknown
    scores: list[int]  # BINS numbers: 0 ≤ score < 0.05, …, 0.95 ≤ score ≤ 1
    seen: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """How a job went. `failures`: code, count, an example; `agreement`: right, of those with a true label."""

    job: JobRow
    classes: Sequence[tuple[str, int]]
    failures: Sequence[tuple[str, int, str]]
    agreement: tuple[int, int]


def facets(database: Database, job: int | Head, chosen: Filter, limit: int = 100) -> Facets:
    """Counts under a filter, at most `limit` labels. Without a filter they cost nothing. Raises UnknownJob."""
    with database.read() as connection:
        if chosen == Filter():
            return _of_tallies(connection, job.job_id if isinstance(job, Head) else job, limit)
        asked = _asked(connection, head_of(connection, job).job_id, chosen)
        part = asked.narrowest(connection, asked.parts, WINDOW)
        query = asked.once(("counts", part), partial(_counts, asked, part))
        found = _of_counts(connection.execute(query, {"beyond": WINDOW + 1, "labels": limit}))
        check_there(connection, job, range(found.seen))
    return found


def summary(database: Database, job_id: int, limit: int = 10) -> Summary:
    """How a job went, from its tallies: `limit` labels at the most. Raises UnknownJob."""
    with database.read() as connection:
        job = read_job(connection, job_id)
        classes = tallies_of(connection, job_id, "label", limit)
        failures = [(code, n, said) for code, n, said in connection.execute(_EXAMPLES, {"job_id": job_id})]
        agrees = dict(tallies_of(connection, job_id, "agrees", 2))
    right = agrees.get("1", 0)
    return Summary(job, classes, failures, (right, right + agrees.get("0", 0)))


def _examples() -> Select[Any]:
    """Each reason of failure of a job, how many images failed so, and what the first of them says."""
    r, t = results.c, tallies.c
    first = select(r.error).where(r.job_id == t.job_id, FAILED, r.error_code == t.value).order_by(r.idx).limit(1)
    query = select(t.value, t.n, func.coalesce(first.scalar_subquery(), "").label("example"))
    of_job = query.where(t.job_id == bindparam("job_id"), t.kind == "error_code", t.n > 0)
    return of_job.order_by(t.n.desc(), t.value).limit(MOST_CODES)


_EXAMPLES = _examples()  # built once


def _of_tallies(connection: Connection, job_id: int, limit: int) -> Facets:
    job = read_job(connection, job_id)
    agrees = dict(tallies_of(connection, job_id, "agrees", 2))
    bins = dict(tallies_of(connection, job_id, "score", BINS))
    right, wrong = agrees.get("1", 0), agrees.get("0", 0)
    return Facets(
        status={"ok": job.classified, "failed": job.failed},
        labels=tallies_of(connection, job_id, "label", limit),
        error_codes=tallies_of(connection, job_id, "error_code", MOST_CODES),
        agreement={"right": right, "wrong": wrong, "unknown": max(0, job.classified - right - wrong)},
        scores=[bins.get(f"{number:02}", 0) for number in range(BINS)],
        seen=job.classified + job.failed,
        exact=True,
    )


def _asked(connection: Connection, job_id: int, chosen: Filter) -> Question:
    """Along which index the first rows are looked at, where no part is small enough."""
    scored = chosen.label is not None or chosen.wrong or {chosen.min_score, chosen.max_score} != {None}
    return question(connection, job_id, chosen, "most_sure" if scored and chosen.status != "failed" else "item")


def _seen(asked: Question, part: Part | None) -> tuple[CTE, frozenset[str]]:
    """The numbers of the first WINDOW rows of the part or index that says the most of a filter; and what it says."""
    query, says = (asked.keys(), asked.way.says) if part is None else (part.query, part.says)
    beyond = bindparam("beyond", type_=Integer)
    return query.limit(beyond).cte("seen").prefix_with("MATERIALIZED"), says


def _counts(asked: Question, part: Part | None) -> CompoundSelect[Any]:
    """Counts: of what is looked at; of the labels of what the filter chooses; of everything else about it."""
    r, i, chosen = results.c, items.c, asked.chosen
    seen, says = _seen(asked, part)
    left = {name: condition for name, condition in named_conditions(chosen) if name not in says | {"score"}}
    if "score" not in says:
        left |= {f"score {n}": condition for n, condition in enumerate(score_range(chosen, r.score + 0.0))}
    # Where items are asked for, they come first: of an image that does not fit no result is read.
    item = InOrder(seen, items, and_(i.job_id == seen.c.job_id, i.idx == seen.c.idx))
    first = item if left.keys() & OF_ITEMS else seen
    found = InOrder(first, results, and_(r.job_id == seen.c.job_id, r.idx == seen.c.idx))
    score = case((r.score >= 1, BINS - 1), else_=_whole(r.score * BINS))
    columns = (r.label, r.status, r.error_code, cast(r.agrees, Integer).label("agrees"), score.label("score"))
    fit = select(*columns).select_from(found).where(*left.values()).cte("fit").prefix_with("MATERIALIZED")
    rest = (fit.c.status, fit.c.error_code, fit.c.agrees, fit.c.score)
    nothing = (cast(null(), String), cast(null(), String), cast(null(), Integer), cast(null(), Integer))
    labels = _row("label", fit.c.label, *nothing).where(fit.c.label.is_not(None)).group_by(fit.c.label)
    most = labels.order_by(func.count().desc(), fit.c.label).limit(bindparam("labels", type_=Integer)).subquery()
    return union_all(
        _row("seen", cast(null(), Text), *nothing).select_from(seen),
        select(*most.c),
        _row("rest", cast(null(), Text), *rest).select_from(fit).group_by(*rest),
    )


def _row(what: str, label: ColumnElement[Any], *rest: ColumnElement[Any]) -> Select[Any]:
    names = ("status", "error_code", "agrees", "score")
    named = (column.label(name) for column, name in zip(rest, names, strict=True))
    return select(literal_column(f"'{what}'").label("what"), label.label("label"), *named, func.count().label("n"))


def _of_counts(rows: Iterable[Any]) -> Facets:
    seen, labels = 0, []
    status, codes, agreement, scores = (
        Counter[str](),
        Counter[str | None](),
        Counter[int | None](),
        Counter[int | None](),
    )
    for row in rows:
        if row.what == "seen":
            seen = row.n
        elif row.what == "label":
            labels.append((row.label, row.n))
        else:
            status[row.status] += row.n
            codes[row.error_code] += row.n
            agreement[row.agrees if row.status == "ok" else -1] += row.n
            scores[row.score] += row.n
    return Facets(
        status={"ok": status["ok"], "failed": status["failed"]},
        labels=_by_count(labels),
        error_codes=_by_count((code, count) for code, count in codes.items() if code is not None),
        agreement={"right": agreement[1], "wrong": agreement[0], "unknown": agreement[None]},
        scores=[scores[number] for number in range(BINS)],
        seen=min(seen, WINDOW),
        exact=seen <= WINDOW,
    )


def _by_count(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda pair: (-pair[1], pair[0]))
