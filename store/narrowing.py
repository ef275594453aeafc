"""Which few results a filter can be narrowed down to first, by an index and without looking at the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Select, bindparam, func, select

from store.patterns import literal_prefix, starts_with
from store.results import FAILED, OK, WRONG, Filter, score_range
from store.tables import corrections, items, results, tallies
from store.tallies import bin_of


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A part of a job that holds all that a filter chooses: `query` selects `job_id` and `idx` of its results.

    `says`: the fields of the filter that it answers in full. `count`: the statement that counts it, no further than
    `beyond`.
    """

    query: Select[Any]
    says: frozenset[str]
    count: Select[Any]


def counts_of(parts: Sequence[Part]) -> Select[Any]:
    """How many rows each part has, at once; of some no further than `beyond`."""
    return select(*(part.count.scalar_subquery() for part in parts))


def narrowest(connection: Connection, parts: Sequence[Part], counts: Select[Any], most: int) -> Part | None:
    """The smallest part; None where each has more than `most` rows. `counts` as `counts_of` makes it of these parts."""
    counted = zip(connection.execute(counts, {"beyond": most + 1}).one(), parts, strict=True)
    few = [(count or 0, part) for count, part in counted if (count or 0) <= most]
    return min(few, key=lambda found: found[0], default=(0, None))[1]


def parts_of(job_id: int, chosen: Filter) -> tuple[Part, ...]:
    """Every part of a job that an index knows, and that holds all that a filter chooses."""
    return (*_tallied(job_id, chosen), *_by_item(job_id, chosen))


def _tallied(job_id: int, chosen: Filter) -> Iterator[Part]:
    """Those whose size is kept."""
    rows = select(results.c.job_id, results.c.idx).where(results.c.job_id == job_id)
    scores = score_range(chosen, results.c.score)
    if chosen.label is not None:
        query = rows.where(results.c.label == chosen.label, *scores)
        yield Part(query, frozenset({"label", "score"}), _one(job_id, "label", chosen.label))
    if chosen.error_code is not None:
        query = rows.where(FAILED, results.c.error_code == chosen.error_code)
        yield Part(query, frozenset({"error_code"}), _one(job_id, "error_code", chosen.error_code))
    if chosen.status == "failed":
        yield Part(rows.where(FAILED), frozenset({"status"}), _all(job_id, "error_code"))
    if scores:
        yield Part(rows.where(OK, *scores), frozenset({"score"}), _of_scores(job_id, chosen))
    if chosen.wrong:
        yield Part(rows.where(WRONG, *scores), frozenset({"wrong", "score"}), _one(job_id, "agrees", "0"))


def _by_item(job_id: int, chosen: Filter) -> Iterator[Part]:
    """Those that an index of the items or the corrections knows; counted, but no further than they may have."""
    for says, query in _item_queries(job_id, chosen):
        bounded = query.limit(bindparam("beyond", type_=Integer)).subquery()
        yield Part(query, frozenset(says), select(func.count()).select_from(bounded))


def _item_queries(job_id: int, chosen: Filter) -> Iterator[tuple[tuple[str, ...], Select[Any]]]:
    rows = select(items.c.job_id, items.c.idx).where(items.c.job_id == job_id)
    if chosen.true_label is not None:
        yield ("true_label",), rows.where(items.c.label == chosen.true_label)
    if chosen.path_prefix:
        yield ("path_prefix",), rows.where(starts_with(items.c.path, chosen.path_prefix))
    if chosen.glob is not None and (prefix := literal_prefix(chosen.glob)):
        yield (), rows.where(starts_with(items.c.path, prefix))
    if chosen.corrected or chosen.correction is not None:
        c = corrections.c
        said = () if chosen.correction is None else (c.label == chosen.correction,)  # at some time: not the last word
        yield (), select(c.job_id, c.idx).where(c.job_id == job_id, *said).distinct()


def _all(job_id: int, kind: str) -> Select[Any]:
    """How many results have any value of a kind, as it is kept."""
    n = tallies.c.n
    return select(func.coalesce(func.sum(n), 0)).where(tallies.c.job_id == job_id, tallies.c.kind == kind)


def _one(job_id: int, kind: str, value: str) -> Select[Any]:
    return _all(job_id, kind).where(tallies.c.value == value)


def _of_scores(job_id: int, chosen: Filter) -> Select[Any]:
    """No fewer than have a score in the range: whole bins are counted."""
    high = 1.0 if chosen.max_score is None else chosen.max_score
    first, last = f"{bin_of(chosen.min_score or 0.0):02}", f"{bin_of(high):02}"
    return _all(job_id, "score").where(tallies.c.value.between(first, last))
