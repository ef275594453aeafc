"""Results of a job: what a row is, which rows a filter chooses, and a stream of any number of them in flat memory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, bindparam, false, literal_column, select

from store.database import Database
from store.errors import UnknownJob
from store.joining import InOrder
from store.paths import from_columns
from store.patterns import matches, starts_with
from store.states import JobState
from store.tables import corrections, items, jobs, models, results

PAGE = 2_000  # rows per query: keyset pages instead of one long transaction that would hold up a checkpoint

# Written out, not as parameters: a partial index is used only where the query says its condition in the same words.
OK = results.c.status == literal_column("'ok'")
FAILED = results.c.status == literal_column("'failed'")
WRONG = results.c.agrees == false()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results: every given condition must hold.

    `path_prefix` and `glob` (`*` any characters, `?` one) are of the name relative to the job's folder.
    """

    label: str | None = None
    status: str | None = None
    error_code: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    wrong: bool | None = None  # only items whose true label is known and differs from the prediction, or is the same
    true_label: str | None = None
    path_prefix: str | None = None
    glob: str | None = None
    corrected: bool | None = None  # only items that a person gave a label, or only the others
    correction: str | None = None  # the label that a person gave last

    @property
    def is_empty(self) -> bool:
        """Whether it chooses every result."""
        return self == Filter()


class ResultRow(NamedTuple):
    """One item with its result. `path` is the full path as bytes; `member` the name inside an archive.

    `agrees`: whether the label is the true one; None where none is known. `correction`: what a person said last.
    """

    job_id: int
    idx: int
    path: bytes
    file_name: str
    member: str | None
    status: str
    label: str | None
    score: float | None
    topk: list[dict[str, Any]]
    true_label: str | None
    error_code: str | None
    error: str | None
    model: str | None
    external_id: str | None
    extra: dict[str, str]
    width: int | None
    height: int | None
    content_hash: str | None
    reused: bool
    agrees: bool | None = None
    correction: str | None = None
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Head:
    """What all results of a job have in common: the job, whose it is, the folder of its names, and the model.

    `settled`: none of it will change; folder and model of a job that is still being listed may.
    """

    job_id: int
    owner: str
    root: bytes
    model: str | None
    settled: bool

    def path_of(self, name: bytes) -> bytes:
        """A name's full path."""
        # os.path.join in a third of its time.
        between = b"" if not self.root or self.root.endswith(b"/") else b"/"
        return name if name.startswith(b"/") else self.root + between + name


def stream(database: Database, job_id: int, chosen: Filter | None = None) -> Iterator[ResultRow]:
    """Every matching result of a job in the order of its items. Raises UnknownJob before the first row."""
    with database.read() as connection:
        head = head_of(connection, job_id)
    query = rows_query(job_id).where(*conditions(chosen or Filter())).order_by(results.c.idx).limit(PAGE)
    last = -1
    while True:
        with database.read() as connection:
            page = connection.execute(query.where(results.c.idx > last)).all()
        for row in page:
            yield to_row(row, head)
        if len(page) < PAGE:
            return
        last = page[-1].idx


_HEAD = (
    select(jobs.c.owner, jobs.c.state, jobs.c.root, jobs.c.root_raw, models.c.name, models.c.version)
    .outerjoin(models, models.c.id == jobs.c.model_id)
    .where(jobs.c.id == bindparam("wanted"))
)


def read_head(database: Database, job_id: int) -> Head:
    """The job's part of its results: who has it need not look it up for each page. Raises UnknownJob."""
    with database.read() as connection:
        return head_of(connection, job_id)


def head_of(connection: Connection, job: int | Head) -> Head:
    """The job's part of its results, looked up unless it is at hand. Raises UnknownJob."""
    if isinstance(job, Head):
        return job
    row = connection.execute(_HEAD, {"wanted": job}).first()
    if row is None:
        raise UnknownJob(job)
    model = f"{row.name}@{row.version}" if row.name else None
    return Head(job, row.owner, from_columns(row.root, row.root_raw), model, row.state != JobState.SCANNING)


def check_there(connection: Connection, job: int | Head, found: Sequence[Any]) -> None:
    """That a job of which nothing was found was not deleted since its head was read. Raises UnknownJob."""
    if not found and isinstance(job, Head):
        head_of(connection, job.job_id)


def correction_of(job_id: ColumnElement[int], idx: ColumnElement[int]) -> ColumnElement[str | None]:
    """The label that a person gave an item last, and did not withdraw, as a scalar subquery."""
    c = corrections.c
    last = select(c.label).where(c.job_id == job_id, c.idx == idx).order_by(c.id.desc()).limit(1)
    return last.correlate(results, items).scalar_subquery()


def rows_query(job_id: int, first: FromClause = results) -> Select[Any]:
    """All results of a job with their items, in no order; `to_row` reads the rows.

    `first` is read first, and the others by their keys: `results`, `items`, or a part with columns job_id and idx.
    """
    joined = _KNOWN.get(first)
    return (_joined(first) if joined is None else joined).where(first.c.job_id == job_id)


def _joined(first: FromClause) -> Select[Any]:
    r, i = results.c, items.c
    columns = (
        *r["idx", "status", "label", "score", "topk", "error_code", "error", "width", "height", "content_hash"],
        *r["reused", "job_id", "agrees", "created_at"],
        *(i.path, i.path_raw, i.member, i.label.label("true_label"), i.external_id, i.extra),
        correction_of(r.job_id, r.idx).label("correction"),
    )
    begun = first
    if first is not results:
        begun = InOrder(begun, results, and_(r.job_id == first.c.job_id, r.idx == first.c.idx))
    if first is not items:
        begun = InOrder(begun, items, and_(i.job_id == r.job_id, i.idx == r.idx))
    return select(*columns).select_from(begun)


_KNOWN: Mapping[FromClause, Select[Any]] = {first: _joined(first) for first in (results, items)}  # built once


def conditions(chosen: Filter) -> list[ColumnElement[bool]]:
    """What a filter asks of a result and its item, to be checked row by row."""
    return [condition for _, condition in named_conditions(chosen)]


OF_ITEMS = frozenset({"true_label", "path_prefix", "glob"})  # fields of a filter that say something of the item


def named_conditions(chosen: Filter) -> Iterator[tuple[str, ColumnElement[bool]]]:
    """Each condition of a filter with the name of its field.

    Written so that no index answers them (`|| ''`, `+ 0`, IS): which index to go along is decided in `store.query`, and
    a planner that takes another reads a whole job for a page.
    """
    r = results.c
    if chosen.status is not None:
        yield "status", r.status + "" == chosen.status
    if chosen.wrong is not None:
        yield "wrong", r.agrees.is_(not chosen.wrong)
    if chosen.label is not None:
        yield "label", r.label + "" == chosen.label
    if chosen.error_code is not None:
        yield "error_code", r.error_code + "" == chosen.error_code
    if chosen.min_score is not None or chosen.max_score is not None:
        yield from (("score", condition) for condition in score_range(chosen, r.score + 0.0))
    yield from _item_conditions(chosen)
    said = correction_of(r.job_id, r.idx)
    if chosen.corrected is not None:
        yield "corrected", said.is_not(None) if chosen.corrected else said.is_(None)
    if chosen.correction is not None:
        yield "correction", said == chosen.correction


def _item_conditions(chosen: Filter) -> Iterator[tuple[str, ColumnElement[bool]]]:
    i = items.c
    if chosen.path_prefix is not None:
        yield "path_prefix", starts_with(i.path + "", chosen.path_prefix)
    if chosen.glob is not None:
        yield "glob", matches(i.path + "", chosen.glob)
    if chosen.true_label is not None:
        yield "true_label", i.label + "" == chosen.true_label


def score_range(chosen: Filter, score: ColumnElement[float]) -> list[ColumnElement[bool]]:
    """What a filter asks of a score."""
    found = []
    if chosen.min_score is not None:
        found.append(score >= chosen.min_score)
    if chosen.max_score is not None:
        found.append(score <= chosen.max_score)
    return found


def _answers(topk: str) -> list[dict[str, Any]]:
    """The best answers of an image: a hundred of these are half a millisecond of a page for the standard library."""
    try:
        found: list[dict[str, Any]] = from_json(topk)
    except ValueError:  # a lone surrogate in a label
        found = json.loads(topk)
    return found


def to_row(row: Any, head: Head) -> ResultRow:
    """A row of `rows_query` as the frozen one."""
    # Unpacked at once: looked up by name, 23 columns cost a page more than its query.
    idx, status, label, score, topk, error_code, error, width, height, content_hash, *more = row
    reused, job_id, agrees, created_at, name, raw, member, true_label, external_id, extra, correction = more
    return ResultRow(  # by place: by name they take half as long again
        job_id,
        idx,
        head.path_of(from_columns(name, raw)),
        name,
        member,
        status,
        label,
        score,
        _answers(topk) if topk else [],
        true_label,
        error_code,
        error,
        head.model,
        external_id,
        json.loads(extra) if extra else {},
        width,
        height,
        bytes(content_hash).hex() if content_hash else None,
        reused,
        agrees,
        correction,
        created_at,
    )
