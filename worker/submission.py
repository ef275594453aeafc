"""Accepting a classify job: a model by reference, a source of images, and the few choices a person makes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain

from models.manifest import ModelVersion
from store.catalog import register_model
from store.database import Database
from store.jobs import accept
from store.rows import NewItem, NewJob
from worker.sources.entry import Entry, Source


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person may choose for a classify job."""

    top_k: int = 5
    reuse: bool = True
    priority: int = 5
    owner: str = ""
    max_failures: str | None = None  # see store.failure_limits


class Scan:
    """A source that has begun to be read: wrong or empty ones are found out before anything else starts."""

    def __init__(self, source: Source) -> None:
        """Read the first entry. Raises SourceError."""
        self.source = source
        self._rest = iter(source)
        self._first = next(self._rest)

    def items(self, each: Callable[[int], None] | None) -> Iterator[NewItem]:
        """Every entry as a new item, once; `each` is told the count now and then. Raises SourceError."""
        for n, entry in enumerate(chain([self._first], self._rest), 1):
            if each is not None and n % 1000 == 0:
                each(n)
            yield new_item(entry)


def new_item(entry: Entry) -> NewItem:
    """A source's entry as a row to be."""
    return NewItem(
        path=entry.path,
        size=entry.size,
        mtime_ns=entry.mtime_ns,
        label=entry.label,
        split=entry.split,
        external_id=entry.external_id,
        extra=entry.extra,
        member=entry.member,
        offset=entry.offset,
    )


def register_version(database: Database, version: ModelVersion) -> int:
    """The database's id of a model version, which is made known to it if it was not. Raises StoreError."""
    facts = version.manifest
    wanted = json.dumps(asdict(facts.preprocessing))
    return register_model(
        database, (facts.name, facts.version), facts.digest, version.labels, wanted, str(version.path)
    )


def submit_classify(
    database: Database,
    scan: Scan,
    version: ModelVersion,
    choices: Choices,
    each: Callable[[int], None] | None = None,
) -> int:
    """Accept a job and return its id. `each` is told the count of images found, now and then.

    Raises SourceError for what is wrong with the source (nothing of the job is left then), StoreError for the database.
    """
    job = classify_job(database, scan.source, version, choices)
    return accept(database, job, scan.items(each), scan.source.ignored)


def classify_job(database: Database, source: Source, version: ModelVersion, choices: Choices) -> NewJob:
    """The job of a source and a model, to be accepted with the source's items. Raises StoreError."""
    return NewJob(
        model_id=register_version(database, version),
        description=source.description,
        root=os.fsencode(source.root),
        confined=source.confined,
        top_k=min(choices.top_k, len(version.labels)),
        reuse=choices.reuse,
        priority=choices.priority,
        owner=choices.owner,
        max_failures=choices.max_failures,
    )
