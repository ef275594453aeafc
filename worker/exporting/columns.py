"""The columns of an export: nested for JSONL and Parquet, flat for CSV."""

from __future__ import annotations

from store.records import Record, result_record
from store.results import ResultRow

BATCH = 5_000  # rows: of a Parquet row group, and that decide the further columns of a CSV


def flat_record(row: ResultRow, top_k: int) -> Record:
    """A result for CSV: top-k as label_1, score_1, … and every further column of its own."""
    record = result_record(row)
    extra, topk = record.pop("extra"), record.pop("topk")
    for n in range(1, top_k + 1):
        entry = topk[n - 1] if n <= len(topk) else {}
        record[f"label_{n}"], record[f"score_{n}"] = entry.get("label"), entry.get("score")
    return record | {name: value for name, value in extra.items() if name not in record}
