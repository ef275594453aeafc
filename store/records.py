"""What a job, a result, a run look like as JSON: one form for `--json`, for HTTP and for exports.

Times are RFC 3339 in UTC. File names that are not UTF-8 show their bytes as `\\xe9`. What is no finite number is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from store.corrections import CorrectionRow
from store.facets import Facets, Summary
from store.item_query import ItemDetail
from store.moments import rfc3339
from store.results import ResultRow
from store.rows import JobRow
from store.run_rows import EpochRow, RunRow

Record = dict[str, Any]


def name_text(name: bytes) -> str:
    """A file name for people and for JSON: bytes that are not UTF-8 are shown as `\\xe9`."""
    return name.decode("utf-8", "backslashreplace")


def moment(seconds: float | None) -> str | None:
    """A time as RFC 3339, or None where there is none yet."""
    return None if seconds is None else rfc3339(seconds)


def job_record(row: JobRow) -> Record:
    """A job with its totals."""
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state.value,
        "owner": row.owner,
        "description": row.description,
        "root": name_text(row.root),
        "confined": row.confined,
        "model": row.model,
        "top_k": row.top_k,
        "reuse": row.reuse,
        "found": row.found,
        "classified": row.classified,
        "failed": row.failed,
        "reused": row.reused,
        "pending": row.pending,
        "ignored": row.ignored,
        "priority": row.priority,
        "created_at": rfc3339(row.created_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "error": row.error,
        "max_failures": row.max_failures,
        "done_before": row.done_before,
        "trouble": row.trouble,
    }


def progress_record(row: JobRow, now: float) -> Record:
    """How far a job is at the time `now` (seconds since 1970): its totals, images per second, seconds left.

    The speed is that of the whole job so far, after a retry of what ran since; None before its first result. `eta_s` is
    None where nothing is running.
    """
    done = row.classified + row.failed - row.done_before
    seconds = (row.finished_at or now) - row.started_at if row.started_at is not None else 0.0
    speed = done / seconds if done > 0 and seconds > 0 else None
    running = speed is not None and not row.state.is_final and row.state.value == "running"
    return {
        "found": row.found,
        "classified": row.classified,
        "failed": row.failed,
        "reused": row.reused,
        "pending": row.pending,
        "images_per_s": None if speed is None else round(speed, 2),
        "eta_s": round(row.pending / speed, 1) if running and speed else None,
        "trouble": row.trouble,
    }


def job_summary_record(row: Summary) -> Record:
    """How a job went: classes, reasons of failure (code, count, an example), right of those with a true label."""
    right, labelled = row.agreement
    return {
        "job": job_record(row.job),
        "classes": [{"label": label, "images": count} for label, count in row.classes],
        "failures": [{"error_code": code, "images": count, "example": text} for code, count, text in row.failures],
        "agreement": {"right": right, "labelled": labelled, "share": right / labelled if labelled else None},
    }


def result_record(row: ResultRow) -> Record:
    """A result; a manifest's further columns follow at the end, in `extra`."""
    return {
        "job_id": row.job_id,
        "idx": row.idx,
        "path": name_text(row.path),
        "file_name": row.file_name,
        "member": row.member,
        "status": row.status,
        "label": row.label,
        "score": row.score,
        "topk": row.topk,
        "true_label": row.true_label,
        "model": row.model,
        "error_code": row.error_code,
        "error": row.error,
        "width": row.width,
        "height": row.height,
        "content_hash": row.content_hash,
        "reused": row.reused,
        "agrees": row.agrees,
        "correction": row.correction,
        "created_at": rfc3339(row.created_at),
        "id": row.external_id,
        "extra": row.extra,
    }


def item_record(row: ItemDetail) -> Record:
    """An item with what became of it so far."""
    return {
        "job_id": row.job_id,
        "idx": row.idx,
        "path": name_text(row.path),
        "file_name": row.file_name,
        "member": row.member,
        "size": row.size,
        "modified_at": None if row.mtime_ns is None else rfc3339(row.mtime_ns / 1e9),
        "true_label": row.true_label,
        "split": row.split,
        "status": row.status,
        "label": row.label,
        "score": row.score,
        "error_code": row.error_code,
        "correction": row.correction,
        "id": row.external_id,
        "extra": row.extra,
    }


def correction_record(row: CorrectionRow) -> Record:
    """What a person said of an item; `label` is null where they withdrew what was said before."""
    return {
        "job_id": row.job_id,
        "idx": row.idx,
        "label": row.label,
        "author": row.author,
        "created_at": rfc3339(row.created_at),
    }


def facets_record(row: Facets) -> Record:
    """What there is to choose from."""
    return {
        "status": row.status,
        "labels": [{"label": label, "images": count} for label, count in row.labels],
        "error_codes": [{"error_code": code, "images": count} for code, count in row.error_codes],
        "agreement": row.agreement,
        "scores": row.scores,
        "seen": row.seen,
        "exact": row.exact,
    }


def epoch_record(row: EpochRow) -> Record:
    """One epoch of a run's history."""
    return asdict(row)


def run_record(row: RunRow, *, unreadable: int | None = None, evaluated_on: str | None = None) -> Record:
    """A run; `unreadable` images of its job and the split that its evaluation is of are asked for elsewhere."""
    running = row.state == "running"
    return {
        "run": row.id,
        "uid": row.uid,
        "job_id": row.job_id,
        "name": row.name,
        "state": row.state,
        "stage": row.stage if running else None,
        "progress": row.progress if running else None,
        "model": row.model,
        "base": row.base_model or row.recipe.get("preset"),
        "base_model": row.base_model,
        "recipe": row.recipe,
        "options": row.options,
        "monitor": row.monitor,
        "epochs": row.epochs,
        "epochs_planned": row.epochs_planned,
        "best_epoch": row.best_epoch,
        "best_value": row.best_value,
        "images": {"train": row.images_train, "val": row.images_val, "test": row.images_test},
        "unreadable": unreadable,
        "census": row.census,
        "keep_best": row.keep_best,
        "checkpoint_epoch": row.checkpoint_epoch,
        "evaluation_job_id": row.evaluation_job_id,
        "evaluated_on": evaluated_on,
        "accuracy": row.accuracy,
        "top5": row.top5,
        "report": row.report_path,
        "continued_from": row.continued_from,
        "fingerprint": row.fingerprint,
        "seed": row.seed,
        "device": row.device,
        "libraries": row.libraries,
        "code_version": row.code_version,
        "created_at": rfc3339(row.created_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "error": row.error,
    }


def worker_record(row: Mapping[str, Any]) -> Record:
    """A worker from a row of the table `workers`; its warm models as a list, most recent first."""
    return {
        "id": row["id"],
        "host": row["host"],
        "device": row["device"],
        "pid": row["pid"],
        "state": row["state"],
        "models": [name.strip() for name in (row["model"] or "").split(",") if name.strip()],
        "images": row["images"],
        "started_at": rfc3339(row["started_at"]),
        "seen_at": rfc3339(row["seen_at"]),
        "trouble": row["trouble"],
    }


def json_text(value: Any) -> str:
    """A value as JSON on one line, readable; NaN and infinities, which JSON does not have, as null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
