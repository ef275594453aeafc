"""What an export holds, as the API and the child that writes for it both understand it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from store.across import Scope, walk_across
from store.database import Database
from store.item_query import ItemFilter, walk_items
from store.query import walk
from store.results import Filter
from store.way import Order
from worker.exporting.columns import Row


@dataclass(frozen=True, slots=True)
class JobResults:
    """Results of one job; `item` is by number."""

    job_id: int
    chosen: Filter
    order: Order = "item"
    what: Literal["job_results"] = "job_results"

    def rows(self, database: Database) -> Iterator[Row]:
        """All of them. Raises UnknownJob before the first."""
        return walk(database, self.job_id, self.chosen, self.order)


@dataclass(frozen=True, slots=True)
class AllResults:
    """Results of all jobs of a scope, the newest job first."""

    scope: Scope
    chosen: Filter
    order: Order = "item"
    what: Literal["all_results"] = "all_results"

    def rows(self, database: Database) -> Iterator[Row]:
        """All of them."""
        return walk_across(database, self.scope, self.chosen, self.order)


@dataclass(frozen=True, slots=True)
class JobItems:
    """Items of one job by number; with a path prefix by name."""

    job_id: int
    chosen: ItemFilter
    what: Literal["job_items"] = "job_items"

    def rows(self, database: Database) -> Iterator[Row]:
        """All of them. Raises UnknownJob before the first."""
        return walk_items(database, self.job_id, self.chosen)


Selection = JobResults | AllResults | JobItems
# As JSON and back: `dump_json`, `validate_json`.
SELECTION: TypeAdapter[Selection] = TypeAdapter(Annotated[Selection, Field(discriminator="what")])
