"""Exports: all results or items that a filter chooses, as CSV, JSONL or Parquet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.access import Caller, Reader, may_see_job, own_job
from api.context import Context, Here
from api.exports import Exports, ParquetSource, Source, TextSource
from api.problems import Problem, documented
from api.routes.jobs import JobId
from api.routes.results import scope_of
from api.schemas.results import AcrossExportAsked, ExportAsked, ItemsChosen
from store.across import most_answers
from worker.exporting.parquet import NoParquet, has_parquet
from worker.exporting.selection import AllResults, JobItems, JobResults, Selection

router = APIRouter(tags=["results"])
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
BODIES = {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in TYPES.values()}
Form = Annotated[Literal["csv", "jsonl", "parquet"], Path(description="The file's form.")]


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file; a connection that breaks is a failure.", "content": BODIES},
    **documented("not-installed", "too-many-exports"),
}


@router.get(
    "/jobs/{job}/results.{form}",
    operation_id="export_results",
    summary="All results of a job, as a file",
    response_class=Response,
    responses={**ANSWERS, **documented("not-found")},
)
def get_export(here: Here, caller: Reader, job: JobId, form: Form, asked: Annotated[ExportAsked, Query()]) -> Response:
    """Identical to what `pixmill results --out` writes. `item` is by number here, also with `path_prefix` or `glob`."""
    row = own_job(here, caller, job)
    export = _Export(JobResults(job, asked.filter(), asked.order), form, f"job-{job}-results", row.top_k)
    return export.begun(here, caller)


@router.get(
    "/results.{form}",
    operation_id="export_results_across_jobs",
    summary="All results of several jobs, as a file",
    response_class=Response,
    responses={**ANSWERS, **documented("too-broad")},
)
def get_export_across(here: Here, caller: Reader, form: Form, asked: Annotated[AcrossExportAsked, Query()]) -> Response:
    """Of a model, or with a label: the newest job first, inside a job in the order asked for; `item` is by number."""
    scope = scope_of(caller, asked)
    top_k = most_answers(here.database, scope) if form == "csv" else 0
    export = _Export(AllResults(scope, asked.filter(), asked.order), form, "results", top_k)
    return export.begun(here, caller)


@router.get(
    "/jobs/{job}/items.{form}",
    operation_id="export_items",
    summary="All items of a job, as a file",
    response_class=Response,
    responses={**ANSWERS, **documented("not-found")},
    tags=["items"],
)
def get_items_export(
    here: Here, caller: Reader, job: JobId, form: Form, asked: Annotated[ItemsChosen, Query()]
) -> Response:
    """What was accepted, with what became of it so far. By number; with `path_prefix` by name."""
    may_see_job(here, caller, job)
    return _Export(JobItems(job, asked.filter()), form, f"job-{job}-items").begun(here, caller)


@dataclass(frozen=True, slots=True)
class _Export:
    """A file that is asked for; CSV has columns for `top_k` labels."""

    selection: Selection
    form: str
    name: str
    top_k: int = 0

    def begun(self, here: Context, caller: Caller) -> Response:
        make: Callable[[], Source]
        if self.form == "parquet":
            if not has_parquet():
                raise Problem("not-installed", str(NoParquet()))
            make = partial(ParquetSource, here.settings.database, self.selection)
        else:
            make = partial(TextSource, here.database, self.selection, self.form, self.top_k)
        return here.part(Exports).start(caller.token_id, make, TYPES[self.form], f"{self.name}.{self.form}")
