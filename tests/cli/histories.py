"""Runs as a worker would have written them, without any training: for what only reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.recipes import make_recipe
from store import jobs, runs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.evaluations import record_evaluation
from store.rows import Lease, NewItem, NewJob, NewResult, NewRun
from store.run_data import write_survey
from store.run_rows import EpochFacts, EvaluationFacts, Finding, RunItem, RunRow, Survey
from store.sweep import finish_jobs

LABELS = ("robin", "wren")
TRUE = ("robin", "robin", "wren", "wren")


@dataclass(frozen=True, slots=True)
class History:
    """What is different from run to run: `losses` by epoch, and what the model answered for TRUE."""

    name: str = "finches"
    version: int = 1
    learning_rate: float = 1e-3
    losses: Sequence[float] = (0.9, 0.4, 0.5)
    answers: Sequence[str] = TRUE
    findings: Sequence[Finding] = ()
    options: dict[str, object] = field(default_factory=dict)


def accept_run(database: Database, history: History, continued_from: int | None = None) -> int:
    """Accept the job of a run over six labelled images; its id."""
    base = register_model(database, ("birds", 1), "d" * 64, LABELS, "{}", "/models/birds/1")
    said = {"optimizer": {"learning_rate": history.learning_rate}, "epochs": 4}
    recipe = make_recipe("head", base="birds@1", preset=None, said=said)
    new = NewRun(
        history.name,
        recipe.model_dump(exclude_none=True),
        seed=7,
        base_model_id=base,
        epochs_planned=recipe.total_epochs,
        continued_from=continued_from,
        options={"labels": list(LABELS), **history.options},
    )
    found = [NewItem(b"%d.jpg" % n, label=LABELS[n % 2]) for n in range(6)]
    description = f"{history.name}: folder /photos"
    job = NewJob(None, description=description, root=b"/photos", kind="finetune", queue="train", run=new)
    return jobs.accept(database, job, found)


def claim_run(database: Database) -> Lease:
    """Claim the run that is due, begin it, and write its survey: one of the six images is unreadable."""
    lease = claim(database, Claimer("t", queue="train"))
    assert lease is not None
    runs.begin(database, lease, device="CPU", libraries={"keras": "3.15"}, code_version="0.1.0")
    return lease


def survey_run(database: Database, lease: Lease, findings: Sequence[Finding] = ()) -> None:
    """The data: 3 training and 2 validation images, one of all six unreadable."""
    splits = ("train", "train", "train", "val", "val")
    items = [RunItem(n, split, b"%016d" % n) for n, split in enumerate(splits)]  # type: ignore[arg-type]  # of literals
    leaked = sum(finding.kind == "leak" for finding in findings)
    census = {"identical": 0, "near": 2, "conflicts": 0, "leaks": leaked, "small": {"wren": 2}}
    failed = [NewResult(5, "failed", error_code="truncated", error="the file ends too soon")]
    write_survey(database, lease, Survey(items, list(findings), failed, census, "f" * 64))


def epoch(number: int, val_loss: float, *, best: bool) -> EpochFacts:
    """An epoch with this validation loss."""
    return EpochFacts(
        epoch=number,
        phase="head",
        loss=val_loss + 0.1,
        accuracy=1 - val_loss / 2,
        top5=1.0,
        val_loss=val_loss,
        val_accuracy=1 - val_loss,
        val_top5=1.0,
        learning_rate=1e-3,
        images_per_s=1234.0,
        seconds=2.0,
        is_best=best,
        patience_left=3,
    )


def finished_run(database: Database, history: History) -> RunRow:
    """A run from its acceptance to its evaluation."""
    job_id = accept_run(database, history)
    lease = claim_run(database)
    survey_run(database, lease, history.findings)
    best = float("inf")
    for number, loss in enumerate(history.losses, 1):
        runs.add_epoch(database, lease, epoch(number, loss, best=loss < best))
        best = min(best, loss)
    runs.move_checkpoint(database, lease, f"/runs/{job_id}/checkpoint", len(history.losses), 0)
    model = (history.name, history.version)
    model_id = register_model(database, model, f"{job_id:064}", LABELS, "{}", f"/models/{history.name}")
    runs.set_model(database, lease, model_id, list(history.losses).index(best) + 1, best)
    evaluation_id = evaluated(database, model_id, history.answers)
    run = runs.run_of_job(database, job_id)
    record_evaluation(database, evaluation_id, EvaluationFacts(model_id, 4, 0.5, split="val", run_id=run.id))
    runs.set_evaluation(database, lease, evaluation_id, "/nowhere/report/index.html")
    runs.finish_run(database, lease, "done")
    return runs.find_run(database, run.id)


def evaluated(database: Database, model_id: int, answers: Sequence[str]) -> int:
    """A classify job over the four labelled images TRUE, with these answers."""
    items = [NewItem(b"%d.jpg" % n, label=label) for n, label in enumerate(TRUE)]
    job_id = jobs.accept(database, NewJob(model_id, root=b"/photos", reuse=False), items)
    lease = claim(database, Claimer("w"))
    assert lease is not None
    rows = [
        NewResult(
            n,
            "ok",
            label=label,
            score=0.9 - n / 100,
            topk=json.dumps([{"label": label, "score": 0.9 - n / 100}]),
            content_hash=b"%016d" % n,
            width=4,
            height=3,
        )
        for n, label in enumerate(answers)
    ]
    commit_slice(database, lease, rows, last=True)
    finish_jobs(database)
    return job_id
