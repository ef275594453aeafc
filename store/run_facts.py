"""What a list of runs tells beside each run: how many of its pictures were unreadable, what it was evaluated on."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from store.database import Database
from store.run_rows import RunRow
from store.tables import evaluations, shards

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # as people call them


@dataclass(frozen=True, slots=True)
class RunFacts:
    """`unreadable`: None once the run's job is removed; `evaluated_on`: None where it was not evaluated."""

    unreadable: int | None
    evaluated_on: str | None


def facts_of(database: Database, runs: Sequence[RunRow]) -> dict[int, RunFacts]:
    """The facts of each run by its number, in two queries."""
    jobs = [run.job_id for run in runs if run.job_id is not None]
    examined = [run.evaluation_job_id for run in runs if run.evaluation_job_id is not None]
    failed = (
        select(shards.c.job_id, func.sum(shards.c.failed)).where(shards.c.job_id.in_(jobs)).group_by(shards.c.job_id)
    )
    splits = select(evaluations.c.job_id, evaluations.c.split).where(evaluations.c.job_id.in_(examined))
    with database.read() as connection:
        unreadable = {job: int(count) for job, count in connection.execute(failed)}
        split = {row.job_id: row.split for row in connection.execute(splits)}
    return {
        run.id: RunFacts(
            unreadable.get(run.job_id, 0) if run.job_id is not None else None,
            _evaluated_on(split.get(run.evaluation_job_id)) if run.evaluation_job_id is not None else None,
        )
        for run in runs
    }


def _evaluated_on(split: str | None) -> str:
    return SPLITS.get(split or "", "evaluation")
