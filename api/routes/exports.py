"""Exports: all results that a filter chooses, as CSV, JSONL or Parquet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.access import Reader, own_job
from api.context import Here
from api.exports import Exports, ParquetSource, Source, TextSource, Wanted
from api.problems import Problem, documented
from api.routes.jobs import JobId
from api.schemas.results import ExportAsked
from worker.exporting.parquet import NoParquet, has_parquet

router = APIRouter(tags=["results"])
TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
BODIES = {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in TYPES.values()}
Form = Annotated[Literal["csv", "jsonl", "parquet"], Path(description="The file's form.")]


@router.get(
    "/jobs/{job}/results.{form}",
    operation_id="export_results",
    summary="All results of a job, as a file",
    response_class=Response,
    responses={
        200: {"description": "The whole file; a connection that breaks is a failure.", "content": BODIES},
        **documented("not-found", "not-installed", "too-many-exports"),
    },
)
def get_export(here: Here, caller: Reader, job: JobId, form: Form, asked: Annotated[ExportAsked, Query()]) -> Response:
    """Identical to what `pixmill results --out` writes. `item` is by number here, also with `path_prefix` or `glob`."""
    row = own_job(here, caller, job)
    wanted = Wanted(job, asked.filter(), asked.order)
    make: Callable[[], Source]
    if form == "parquet":
        if not has_parquet():
            raise Problem("not-installed", str(NoParquet()))
        make = partial(ParquetSource, here.settings.database, wanted)
    else:
        make = partial(TextSource, here.database, wanted, form, row.top_k)
    return here.part(Exports).start(caller.token_id, make, TYPES[form], f"job-{job}-results.{form}")
