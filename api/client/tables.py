"""Results as columns, for those who go on with a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self

from store.records import result_record
from store.results import ResultRow


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, by name, as `result_record` has them. All rows are in memory."""

    columns: Mapping[str, list[Any]]

    @classmethod
    def of(cls, rows: Iterable[ResultRow]) -> Self:
        """The rows as columns."""
        columns: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in result_record(row).items():
                columns.setdefault(name, []).append(value)
        return cls(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame. Raises ImportError where pandas is not installed."""
        return import_module("pandas").DataFrame(dict(self.columns))

    def to_arrow(self) -> Any:
        """A pyarrow.Table, with the columns of a Parquet export. Raises ImportError where pyarrow is not installed."""
        arrow = import_module("pyarrow")
        columns = dict(self.columns)
        if "extra" in columns:  # texts by name, of which each row may have others
            pairs = [list(values.items()) for values in columns["extra"]]
            columns["extra"] = arrow.array(pairs, arrow.map_(arrow.string(), arrow.string()))
        return arrow.table(columns)
