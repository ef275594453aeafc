"""Evaluations and comparisons that are kept in memory: a million rows are looked at once, not at every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api.context import Context
from api.paging import json_bytes, tag_of
from api.shelf import Shelf
from store import insights
from store.rows import JobRow
from store.run_rows import RunRow
from worker.comparing import compare_runs, comparison_record
from worker.measuring import Measured, evaluation_record, measure

MOST = 32
MOST_BYTES = 32 << 20  # of finished JSON; what it was made from takes about three times as much


@dataclass(frozen=True, slots=True)
class Ready:
    """A body of JSON with its tag."""

    data: bytes
    tag: str

    @classmethod
    def of(cls, body: object) -> Ready:
        """A value as JSON."""
        data = json_bytes(body)
        return cls(data, tag_of(data))

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation: its figures, the whole as JSON, and the confusion matrix by true label and prediction."""

    measured: Measured
    ready: Ready
    cells: Sequence[tuple[tuple[int, int], int]]


@dataclass(frozen=True, slots=True)
class _Kept:
    evaluated: Evaluated | None  # None: nothing that has a true label was classified

    @property
    def size(self) -> int:
        return self.evaluated.ready.size if self.evaluated else 0


class Measurements:
    """The evaluations and comparisons of one API process."""

    def __init__(self, here: Context) -> None:
        self._database = here.database
        self._evaluations: Shelf[_Kept] = Shelf("evaluations are measured", MOST, MOST_BYTES)
        self._comparisons: Shelf[Ready] = Shelf("runs are compared", MOST, MOST_BYTES)

    def of_job(self, job_id: int) -> Evaluated | None:
        """How good the model was in a job; of one that runs, some seconds ago. None without an evaluation.

        Raises UnknownJob, Problem 503."""
        return self._of(insights.job(self._database, job_id))

    def of_runs(self, one: RunRow, other: RunRow) -> Ready:
        """Two runs beside each other, as JSON. Raises UnknownJob, Problem 503."""
        ids = [run.evaluation_job_id for run in (one, other)]
        jobs = [insights.job(self._database, number) if number is not None else None for number in ids]
        evaluated = [self._of(job) if job is not None else None for job in jobs]
        found = [it.measured if it is not None else None for it in evaluated]

        def compare() -> Ready:
            return Ready.of(comparison_record(one, other, compare_runs(self._database, one, other, found)))

        settled = all(run.finished_at is not None for run in (one, other)) and all(map(_is_over, jobs))
        return self._comparisons.get((one.id, other.id), (one, other, *map(_stamp, jobs)), compare, settled=settled)

    def _of(self, job: JobRow) -> Evaluated | None:
        kept = self._evaluations.get(job.id, _stamp(job), lambda: self._measure(job.id), settled=_is_over(job))
        return kept.evaluated

    def _measure(self, job_id: int) -> _Kept:
        measured = measure(self._database, job_id)
        if measured is None:
            return _Kept(None)
        return _Kept(Evaluated(measured, Ready.of(evaluation_record(measured)), sorted(measured.cells.items())))


def _stamp(job: JobRow | None) -> object:
    """What changes whenever the results of a job do: its counts, and its end, which a retry forgets."""
    return None if job is None else (job.finished_at, job.classified, job.failed)


def _is_over(job: JobRow | None) -> bool:
    return job is None or job.finished_at is not None
