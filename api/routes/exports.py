"""Exports: all results that a filter chooses, as CSV, JSONL or Parquet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.access import Reader, own_job
from api.context import Here
from api.exports import Exports, ParquetSource, Source, TextSource
from api.problems import Problem, documented
from api.routes.jobs import JobId
from api.schemas.results import Chosen
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
def get_export(here: Here, caller: Reader, job: JobId, form: Form, asked: Annotated[Chosen, Query()]) -> Response:
    """Identical to what `pixmill results --out` writes: in the order of the items, honouring the filter.

    There is no `order`: another order would need all rows at once before the first is sent.
    """
    row = own_job(here, caller, job)
    chosen = asked.filter()
    make: Callable[[], Source]
    if form == "parquet":
        if not has_parquet():
            raise Problem("not-installed", str(NoParquet()))
        make = partial(ParquetSource, here.settings.database, job, chosen)
    else:
        make = partial(TextSource, here.database, job, chosen, form, row.top_k)
    return here.part(Exports).start(caller.token_id, make, TYPES[form], f"job-{job}-results.{form}")
