"""What a classify job over labelled items says of its model, counted by the database: no row of an image leaves it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select, text

from store.database import ONE_MOMENT, SCANS, Database
from store.tables import tallies
from store.views import POSTGRESQL, SQLITE


class Answers(NamedTuple):
    """Images with the same true label, the same prediction and a score in the same tenth, numbered from 0."""

    true_label: str
    label: str
    tenth: int
    images: int
    scores: float  # their sum
    top5: int  # with the true label among the five best answers


# What is right is all that is classified, less what is wrong and what has no true label. All of it is counted along the
# index of labels and scores; only what is wrong is read, with its item: at a million images an eighth of the time.
_TENTH = "CASE WHEN r.score >= 1 THEN 9 ELSE {floor} END"
_SUMS = "{tenth} AS tenth, COUNT(*) AS images, SUM(r.score) AS scores"
_ALL = "SELECT r.label, {sums} FROM results r WHERE r.job_id = :job_id AND r.label IS NOT NULL GROUP BY 1, 2"
# `|| ''`: no index of labels, along which SQLite would look up each row.
_UNKNOWN = """SELECT r.label || '' AS label, {sums} FROM results r
    WHERE r.job_id = :job_id AND r.status || '' = 'ok' AND r.agrees IS NULL GROUP BY 1, 2"""
_WRONG = """SELECT i.label AS true_label, r.label AS label, {sums}, SUM(CASE WHEN {top5} THEN 1 ELSE 0 END) AS top5
    {with_items} WHERE r.job_id = :job_id AND r.agrees = false GROUP BY 1, 2, 3"""


def answers(database: Database, job_id: int) -> list[Answers]:
    """Every classified image that has a true label, as of one moment; in no order."""
    with database.read(ONE_MOMENT, SCANS) as connection:
        labelled, classified = _counted(connection, job_id)
        if not labelled:
            return []
        everything = _rows(connection, job_id, _ALL)
        unknown = _rows(connection, job_id, _UNKNOWN) if classified > labelled else []
        wrong = [Answers(**row._mapping) for row in _rows(connection, job_id, _WRONG)]
    return [*_right(everything, [*unknown, *wrong]), *wrong]


def _counted(connection: Connection, job_id: int) -> tuple[int, int]:
    """How many images are classified and have a true label; how many are classified."""
    query = select(tallies.c.kind, func.sum(tallies.c.n)).where(
        tallies.c.job_id == job_id, tallies.c.kind.in_(("agrees", "label"))
    )
    counts = {kind: int(n) for kind, n in connection.execute(query.group_by(tallies.c.kind))}
    return counts.get("agrees", 0), counts.get("label", 0)


def _rows(connection: Connection, job_id: int, query: str) -> list[Row[Any]]:
    words = SQLITE if connection.dialect.name == "sqlite" else POSTGRESQL
    sums = _SUMS.format(tenth=_TENTH.format(floor=words.floor.format("r.score * 10")))
    said = query.format(sums=sums, top5=words.top5, with_items=words.with_items)
    return list(connection.execute(text(said), {"job_id": job_id}))


def _right(everything: Iterable[Row[Any]], others: Iterable[Row[Any] | Answers]) -> Iterable[Answers]:
    """What is left of everything without the others: the right ones. Their true label is the first of their answers."""
    images: defaultdict[tuple[str, int], int] = defaultdict(int)
    scores: defaultdict[tuple[str, int], float] = defaultdict(float)
    for rows, sign in ((everything, 1), (others, -1)):
        for row in rows:
            images[row.label, row.tenth] += sign * row.images
            scores[row.label, row.tenth] += sign * row.scores
    for (label, tenth), count in images.items():
        if count > 0:
            yield Answers(label, label, tenth, count, scores[label, tenth], count)
