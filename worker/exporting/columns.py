"""The columns of an export of results or items: nested for JSONL and Parquet, flat for CSV."""

from __future__ import annotations

from store.item_query import ItemDetail
from store.records import Record, item_record, result_record
from store.results import ResultRow

Row = ResultRow | ItemDetail

BATCH = 5_000  # rows: of a Parquet row group, and that decide the further columns of a CSV


def record_of(row: Row) -> Record:
    """A row as JSON has it."""
    return result_record(row) if isinstance(row, ResultRow) else item_record(row)


def flat_record(row: Row, top_k: int) -> Record:
    """A row for CSV: top-k of a result as label_1, score_1, … and every further column of its own."""
    record = record_of(row)
    extra, topk = record.pop("extra"), record.pop("topk", ())
    for n in range(1, top_k + 1):
        entry = topk[n - 1] if n <= len(topk) else {}
        record[f"label_{n}"], record[f"score_{n}"] = entry.get("label"), entry.get("score")
    return record | {name: value for name, value in extra.items() if name not in record}
