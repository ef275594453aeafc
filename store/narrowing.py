"""Which few results a filter can be narrowed down to first, by an index and without looking at the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from store.patterns import literal_prefix, starts_with
from store.results import FAILED, OK, WRONG, Filter, score_range
from store.tables import corrections, items, results, tallies
from store.tallies import bin_of


@dataclass(frozen=True, slots=True)
class Narrow:
    """A part of a job: `query` selects `job_id` and `idx` of its results, and there are `count` or fewer of them.

    `says`: the fields of the filter that it answers in full.
    """

    query: Select[Any]
    count: int
    says: frozenset[str]


def narrowest(connection: Connection, job_id: int, chosen: Filter, most: int) -> Narrow | None:
    """The smallest part of a job that holds all that a filter chooses; None where each has more than `most` rows."""
    found = [part for part in _parts(connection, job_id, chosen, most) if part.count <= most]
    return min(found, key=lambda part: part.count, default=None)


def _parts(connection: Connection, job_id: int, chosen: Filter, most: int) -> Iterator[Narrow]:
    tally = _Tallies(connection, job_id)
    of_job = results.c.job_id == job_id
    rows = select(results.c.job_id, results.c.idx).where(of_job)
    if chosen.label is not None:
        query = rows.where(results.c.label == chosen.label, *score_range(chosen, results.c.score))
        yield Narrow(query, tally.of("label", chosen.label), frozenset({"label", "score"}))
    if chosen.error_code is not None:
        query = rows.where(FAILED, results.c.error_code == chosen.error_code)
        yield Narrow(query, tally.of("error_code", chosen.error_code), frozenset({"error_code"}))
    if chosen.status == "failed":
        yield Narrow(rows.where(FAILED), tally.of("error_code"), frozenset({"status"}))
    if chosen.min_score is not None or chosen.max_score is not None:
        yield Narrow(
            rows.where(OK, *score_range(chosen, results.c.score)), tally.of_scores(chosen), frozenset({"score"})
        )
    if chosen.wrong:
        query = rows.where(WRONG, *score_range(chosen, results.c.score))
        yield Narrow(query, tally.of("agrees", "0"), frozenset({"wrong", "score"}))
    yield from _by_item(connection, job_id, chosen, most)


def _by_item(connection: Connection, job_id: int, chosen: Filter, most: int) -> Iterator[Narrow]:
    """Parts that an index of the items or the corrections knows; counted, but no further than they may have."""
    for field, query in _item_queries(job_id, chosen):
        bounded = query.limit(most + 1).subquery()
        count = connection.scalar(select(func.count()).select_from(bounded)) or 0
        yield Narrow(query, count, frozenset(field))


def _item_queries(job_id: int, chosen: Filter) -> Iterator[tuple[tuple[str, ...], Select[Any]]]:
    rows = select(items.c.job_id, items.c.idx).where(items.c.job_id == job_id)
    if chosen.true_label is not None:
        yield ("true_label",), rows.where(items.c.label == chosen.true_label)
    if chosen.path_prefix:
        yield ("path_prefix",), rows.where(starts_with(items.c.path, chosen.path_prefix))
    if chosen.glob is not None and (prefix := literal_prefix(chosen.glob)):
        yield (), rows.where(starts_with(items.c.path, prefix))
    if chosen.corrected:
        c = corrections.c
        yield (), select(c.job_id, c.idx).where(c.job_id == job_id).distinct()


# Built once: put together for each page, they would take longer than their answers.
_ALL = select(func.coalesce(func.sum(tallies.c.n), 0)).where(
    tallies.c.job_id == bindparam("job_id"), tallies.c.kind == bindparam("kind")
)
_ONE = _ALL.where(tallies.c.value == bindparam("value"))
_BETWEEN = _ALL.where(tallies.c.value.between(bindparam("low"), bindparam("high")))


class _Tallies:
    """How many results of a job have a value: one small query for each question."""

    def __init__(self, connection: Connection, job_id: int) -> None:
        self._connection, self._job_id = connection, job_id

    def of(self, kind: str, value: str | None = None) -> int:
        return self._sum(_ALL, kind) if value is None else self._sum(_ONE, kind, value=value)

    def of_scores(self, chosen: Filter) -> int:
        """No fewer than have a score in the range: whole bins are counted."""
        high = 1.0 if chosen.max_score is None else chosen.max_score
        return self._sum(_BETWEEN, "score", low=f"{bin_of(chosen.min_score or 0.0):02}", high=f"{bin_of(high):02}")

    def _sum(self, query: Select[Any], kind: str, **values: str) -> int:
        return int(self._connection.scalar(query, {"job_id": self._job_id, "kind": kind, **values}) or 0)
