"""CSV and JSONL as a stream of text, in pieces large enough to be worth sending."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from itertools import chain, islice

from store.records import json_text
from worker.exporting.columns import BATCH, Row, flat_record, record_of

PIECE = 500  # rows of one piece of text


def csv_pieces(rows: Iterable[Row], top_k: int) -> Iterator[str]:
    """CSV: a head, `top_k` labels and scores, and the further columns that the first rows have."""
    stream = iter(rows)
    first = list(islice(stream, BATCH))
    names = list(dict.fromkeys(name for row in first for name in flat_record(row, top_k)))
    text = StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for number, row in enumerate(chain(first, stream), 1):
        writer.writerow(flat_record(row, top_k))
        if number % PIECE == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def jsonl_pieces(rows: Iterable[Row], _: int = 0) -> Iterator[str]:
    """JSONL: one object a line, top-k as it is."""
    stream = iter(rows)
    while piece := "".join(json_text(record_of(row)) + "\n" for row in islice(stream, PIECE)):
        yield piece


PIECES: dict[str, Callable[[Iterable[Row], int], Iterator[str]]] = {"csv": csv_pieces, "jsonl": jsonl_pieces}
