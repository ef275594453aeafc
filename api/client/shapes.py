"""From records, as JSON over HTTP has them, back to the rows that they were made of: the inverse of `store.records`.

What a record does not tell is None or empty in the row: the database's own ids of models, paths of checkpoints.
Names that are not UTF-8 come back as a record shows them, `\\xe9`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from store.facets import Summary
from store.results import ResultRow
from store.rows import JobRow
from store.run_rows import EpochRow, FindingRow, FlipRow, RunRow
from store.states import JobState
from store.tokens import TokenLimits, TokenRow

if TYPE_CHECKING:
    from worker.comparing import Comparison
    from worker.measuring import Measured

Record = Mapping[str, Any]


def seconds(text: str) -> float:
    """RFC 3339 as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def _when(text: str | None) -> float | None:
    return None if text is None else seconds(text)


def token_of(record: Record) -> TokenRow:
    """The token of a `token_record`."""
    limits = TokenLimits(record["max_queued_items"], record["max_upload_bytes"], record["requests_per_minute"])
    return TokenRow(
        **{name: record[name] for name in ("id", "name", "prefix", "owner")},
        scopes=tuple(record["scopes"]),
        created_at=seconds(record["created_at"]),
        expires_at=_when(record["expires_at"]),
        last_used_at=_when(record["last_used_at"]),
        revoked_at=_when(record["revoked_at"]),
        limits=limits,
    )


def job_of(record: Record) -> JobRow:
    """The job of a `job_record`."""
    same = (
        "id",
        "kind",
        "owner",
        "description",
        "confined",
        "model",
        "top_k",
        "reuse",
        "found",
        "classified",
        "failed",
    )
    return JobRow(
        **{name: record[name] for name in (*same, *_LATER)},
        state=JobState(record["state"]),
        root=record["root"].encode(),
        model_id=None,
        ignored=dict(record["ignored"]),
        created_at=seconds(record["created_at"]),
        started_at=_when(record["started_at"]),
        finished_at=_when(record["finished_at"]),
    )


_LATER = ("reused", "priority", "error", "max_failures", "trouble", "done_before")


def summary_of(record: Record) -> Summary:
    """The summary of a `job_summary_record`."""
    return Summary(
        job=job_of(record["job"]),
        classes=[(one["label"], one["images"]) for one in record["classes"]],
        failures=[(one["error_code"], one["images"], one["example"]) for one in record["failures"]],
        agreement=(record["agreement"]["right"], record["agreement"]["labelled"]),
    )


def result_of(record: Record) -> ResultRow:
    """The result of a `result_record`."""
    return ResultRow(
        **{name: record[name] for name in _SAME_IN_RESULT},
        path=record["path"].encode(),
        topk=list(record["topk"] or ()),
        extra=dict(record["extra"] or {}),
        external_id=record["id"],
        created_at=seconds(record["created_at"]),
    )


_SAME_IN_RESULT = tuple(
    name for name in ResultRow._fields if name not in ("path", "topk", "extra", "external_id", "created_at")
)


def run_of(record: Record) -> RunRow:
    """The run of a `run_record`."""
    images = record["images"]
    reached = record["checkpoint_epoch"]
    return RunRow(
        **{name: record[name] for name in _SAME_IN_RUN},
        id=record["run"],
        owner=record.get("owner", ""),
        stage=record["stage"] or "",
        progress=record["progress"] or {},
        base_model_id=None,
        model_id=None,
        images_train=images["train"],
        images_val=images["val"],
        images_test=images["test"],
        checkpoint="" if reached is not None else None,
        checkpoint_step=None,
        report_path=record["report"],
        created_at=seconds(record["created_at"]),
        started_at=_when(record["started_at"]),
        finished_at=_when(record["finished_at"]),
    )


_SAME_IN_RUN = (
    *(
        "uid",
        "base_model",
        "options",
        "keep_best",
        "checkpoint_epoch",
        "job_id",
        "name",
        "state",
        "recipe",
        "seed",
        "monitor",
        "fingerprint",
        "census",
        "model",
        "continued_from",
    ),
    *("device", "libraries", "code_version", "epochs_planned", "epochs", "best_epoch", "best_value"),
    *("evaluation_job_id", "accuracy", "top5", "error"),
)


def epoch_of(record: Record) -> EpochRow:
    """The epoch of an `epoch_record`."""
    return EpochRow(**{name: record[name] for name in EpochRow.__slots__})


def finding_of(record: Record) -> FindingRow:
    """The finding of a record that has its fields."""
    return FindingRow(**{name: record[name] for name in FindingRow.__slots__})


def comparison_of(record: Record) -> Comparison:
    """The comparison of a `comparison_record`."""
    from store.evaluations import Flips
    from worker.comparing import Comparison

    def pairs(given: Record) -> dict[str, tuple[Any, Any]]:
        return {key: (both["a"], both["b"]) for key, both in given.items()}

    def flips(given: list[Record]) -> list[FlipRow]:
        return [FlipRow(**{name: one[name] for name in FlipRow.__slots__}) for one in given]

    return Comparison(
        settings=pairs(record["settings"]),
        metrics=pairs(record["metrics"]),
        classes={one["label"]: (one["f1_a"], one["f1_b"], one["images"]) for one in record["classes"]},
        flips=Flips(
            flips(record["right_to_wrong"]),
            flips(record["wrong_to_right"]),
            record["flips"]["right_to_wrong"],
            record["flips"]["wrong_to_right"],
        ),
    )


def measured_of(record: Record, top_k: int) -> Measured:
    """The evaluation of an `evaluation_record`, of a job with `top_k`: its scores follow from the confusion matrix."""
    from worker.measuring import Measured
    from worker.scores import score_classes

    names = tuple(one["label"] for one in record["classes"])
    position = {name: index for index, name in enumerate(names)}
    cells = {(position[one["true"]], position[one["predicted"]]): one["images"] for one in record["confusion"]}
    scores = score_classes(names, cells)
    return Measured(
        labels=names,
        images=record["images"],
        correct=record["correct"],
        accuracy=record["accuracy"],
        top5=record["top5"],
        k=max(1, min(5, top_k, len(names))),
        macro=scores.macro,
        weighted=scores.weighted,
        classes=scores.classes,
        cells=cells,
        calibration=(),
        ece=record["calibration_error"],
    )
