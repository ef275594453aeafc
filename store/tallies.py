"""Tallies: how many results of a job have which label, error code, agreement and score, kept as results are written."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from sqlalchemy import Connection, Integer, bindparam, delete, select, text

from store.tables import tallies

Kind = Literal["label", "error_code", "agrees", "score"]
BINS = 20  # of the score: 00 … 19, the last one with 1.0 in it

_NAMES = tuple(f"{number:02}" for number in range(BINS))

# One statement for all values, in the order in which they are given: no two writers lock them in a circle.
_ADD = """INSERT INTO tallies (job_id, kind, value, n)
    SELECT :job_id, value ->> 0, value ->> 1, CAST(value ->> 2 AS bigint) FROM {rows} WHERE true
    ON CONFLICT (job_id, kind, value) DO UPDATE SET n = tallies.n + excluded.n"""
_ADDS = {
    "sqlite": text(_ADD.format(rows="json_each(:rows)")),
    "postgresql": text(_ADD.format(rows="json_array_elements(CAST(:rows AS json))")),
}


# Made once: a page of facets asks it four times.
_MOST = (
    select(tallies.c.value, tallies.c.n)
    .where(tallies.c.job_id == bindparam("wanted_job"), tallies.c.kind == bindparam("wanted_kind"), tallies.c.n > 0)
    .order_by(tallies.c.n.desc(), tallies.c.value)
    .limit(bindparam("most", type_=Integer))
)


def tallies_of(connection: Connection, job_id: int, kind: Kind, limit: int) -> list[tuple[str, int]]:
    """The values of a kind with their counts, most first; those that none has are left out.

    `label` and `score` count what is classified, `error_code` what failed; `agrees` ("1", "0") what has a true label.
    """
    wanted = {"wanted_job": job_id, "wanted_kind": kind, "most": limit}
    return [(value, n) for value, n in connection.execute(_MOST, wanted)]


class Row(Protocol):
    """What of a result is counted."""

    @property
    def label(self) -> str | None:
        """The best label; None where it failed."""

    @property
    def score(self) -> float | None:
        """Its probability; None where it failed."""

    @property
    def error_code(self) -> str | None:
        """Why it failed; None where it did not."""


def count(rows: Iterable[Row], agreed: Iterable[bool | None]) -> Counter[tuple[str, str]]:
    """The values that these results add, as (kind, value); `agreed` says of each whether it has its true label."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.error_code is not None:
            counted["error_code", row.error_code] += 1
        if row.label is not None:
            counted["label", row.label] += 1
        if row.score is not None:
            counted["score", _NAMES[bin_of(row.score)]] += 1
    answers = Counter(agreed)
    counted["agrees", "1"], counted["agrees", "0"] = answers[True], answers[False]
    return counted


def bin_of(score: float) -> int:
    """The twentieth that a score is in, from 0 to 19."""
    if score >= 1:
        return BINS - 1
    return int(score * BINS) if score > 0 else 0


def add(connection: Connection, job_id: int, counted: Mapping[tuple[str, str], int]) -> None:
    """Add to the tallies of a job (negative numbers: take away); last of all that a transaction locks."""
    rows = [(kind, value, n) for (kind, value), n in sorted(counted.items()) if n]
    if not rows:
        return
    connection.execute(_ADDS[connection.dialect.name], {"job_id": job_id, "rows": json.dumps(rows)})


def clear(connection: Connection, job_id: int) -> None:
    """Forget the tallies of a job, with its results."""
    connection.execute(delete(tallies).where(tallies.c.job_id == job_id))
