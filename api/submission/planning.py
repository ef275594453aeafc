"""What a scan does: open the source, read it to its end, and give the job with its items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from api.context import Context
from api.problems import Problem
from api.schemas.submit import ClassifyJob, EvaluateJob
from api.submission.asked import Asked
from api.submission.sources import Choice, Opener
from api.submission.turns import Turns
from store import uploads
from store.rows import NewItem, NewJob
from store.runs import find_run
from worker.evaluation_jobs import evaluation_job
from worker.finetuning import check_dataset, dataset_items, finetune_job
from worker.past import PastSource, past_job
from worker.sources.entry import Entry, Source
from worker.submission import Choices, Scan, classify_job, new_item


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, its items to be read once, and what was passed over: complete when the items are at their end."""

    job: NewJob
    items: Iterator[NewItem]
    ignored: Counter[str]


class Watched:
    """A source read with regard for others: in turns, no further than wanted, and no more than `most` images."""

    def __init__(self, source: Source, turns: Turns, is_wanted: Callable[[], bool], most: int | None) -> None:
        self._source, self._turns, self._is_wanted, self._most = source, turns, is_wanted, most
        self.root, self.confined, self.description = source.root, source.confined, source.description
        self.ignored: Counter[str] = source.ignored

    def __iter__(self) -> Iterator[Entry]:
        """Raises Stopped; Problem queue-full."""
        for n, entry in enumerate(self._turns.politely(iter(self._source), self._is_wanted), 1):
            if self._most is not None and n > self._most:
                raise Problem(
                    "queue-full",
                    f"The {self.description} holds more images than the {self._most:,} that may still wait.",
                )
            yield entry


class Planner:
    """Plans for one process."""

    def __init__(self, context: Context, turns: Turns) -> None:
        self._context, self._turns = context, turns

    def source(self, asked: Asked, is_wanted: Callable[[], bool], stack: ExitStack) -> Watched:
        """The source that is asked for, opened. Raises Problem, SourceError, InvalidRecipe, StoreError."""
        body = asked.body
        # From here on it is seen that the upload is in use, or it is seen here that it goes.
        if asked.upload_id is not None and uploads.touch(self._context.database, asked.upload_id) is None:
            raise Problem("not-found", f"There is no upload {asked.upload_id}.")
        if body.source is None:
            run = find_run(self._context.database, getattr(body, "continue_run", None) or 0)
            found: Source = PastSource(self._context.database, past_job(run))
        else:
            labels = body.labels if isinstance(body, ClassifyJob) else "folder"
            found = Opener(self._context, Choice(body.include, body.exclude, labels), stack).open(body.source)
        return Watched(found, self._turns, is_wanted, asked.most)

    def plan(self, asked: Asked, is_wanted: Callable[[], bool], stack: ExitStack) -> Plan:
        """All that the store needs. Raises what `source` raises, ModelError."""
        plan = self._plan(asked, is_wanted, stack)
        reads = {uploads.READS: asked.upload_id} if asked.upload_id is not None else {}
        options = {**plan.job.options, **reads}
        job = replace(plan.job, owner=asked.owner, options=options, most_waiting=asked.limit)
        return replace(plan, job=job)

    def _plan(self, asked: Asked, is_wanted: Callable[[], bool], stack: ExitStack) -> Plan:
        source = self.source(asked, is_wanted, stack)
        database, registry = self._context.database, self._context.registry
        if isinstance(asked.body, ClassifyJob):
            scan = Scan(source)
            wanted = asked.body
            choices = Choices(wanted.top_k, wanted.reuse, wanted.priority, asked.owner, wanted.max_failures)
            job = classify_job(database, source, registry.get(asked.model or ""), choices)
            return Plan(job, scan.items(None), source.ignored)
        dataset = check_dataset(source)
        if isinstance(asked.body, EvaluateJob):
            body = asked.body
            version = registry.get(asked.model or "")
            job, entries = evaluation_job(
                database, dataset, version, split=body.split, reuse=body.reuse, priority=body.priority
            )
            return Plan(job, map(new_item, entries), source.ignored)
        job = finetune_job(database, dataset, asked.training(), registry)
        return Plan(job, dataset_items(dataset), source.ignored)
