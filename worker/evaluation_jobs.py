"""Evaluation as a job: a classify job over labelled pictures, all of them or one split."""

from __future__ import annotations

import os

from models.datasets.splits import understand
from models.errors import InvalidRecipe
from models.manifest import ModelVersion
from store.database import Database
from store.jobs import accept
from store.rows import NewJob
from worker.finetuning import Dataset
from worker.sources.entry import Entry
from worker.submission import new_item, register_version

TOP_K = 5
NAMES_SHOWN = 5


def submit_evaluation(
    database: Database,
    dataset: Dataset,
    version: ModelVersion,
    *,
    split: str | None = None,
    reuse: bool = True,
    priority: int = 5,
) -> int:
    """Accept a classify job over a labelled data set, or one split of it; returns its id. As `evaluation_job`."""
    job, entries = evaluation_job(database, dataset, version, split=split, reuse=reuse, priority=priority)
    return accept(database, job, (new_item(entry) for entry in entries), dataset.source.ignored)


def evaluation_job(
    database: Database,
    dataset: Dataset,
    version: ModelVersion,
    *,
    split: str | None = None,
    reuse: bool = True,
    priority: int = 5,
) -> tuple[NewJob, list[Entry]]:
    """The job of an evaluation and the entries to accept with it.

    Raises InvalidRecipe where the split has no picture, or a label is none of the model's; StoreError.
    """
    wanted = understand(split)
    entries = [entry for entry in dataset.entries if wanted is None or understand(entry.split) == wanted]
    if not entries:
        found = sorted({understand(entry.split) or "" for entry in dataset.entries} - {""})
        has = f"it has {', '.join(found)}" if found else "it has no splits: leave --split away"
        raise InvalidRecipe(f"No picture of the data set is in the split {split!r}; {has}.")
    _check_labels({entry.label or "" for entry in entries}, version)
    job = NewJob(
        model_id=register_version(database, version),
        description=f"evaluation: {dataset.source.description}",
        root=os.fsencode(dataset.source.root),
        confined=dataset.source.confined,
        top_k=min(TOP_K, len(version.labels)),
        reuse=reuse,
        priority=priority,
    )
    return job, entries


def _check_labels(labels: set[str], version: ModelVersion) -> None:
    strange = sorted(labels - set(version.labels))
    if not strange:
        return
    shown = ", ".join(strange[:NAMES_SHOWN]) + (
        f" and {len(strange) - NAMES_SHOWN} more" if strange[NAMES_SHOWN:] else ""
    )
    known = ", ".join(version.labels[:NAMES_SHOWN]) + (", …" if version.labels[NAMES_SHOWN:] else "")
    raise InvalidRecipe(
        f"{version.reference} does not know {'these classes' if len(strange) > 1 else 'this class'} of the data set: "
        f"{shown}. It knows {known}. Rename the folders, leave the pictures out (--exclude 'FOLDER/*'), "
        "or choose another model."
    )
