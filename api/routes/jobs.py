"""Jobs: the list, and how one of them went."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.access import Reader, may_see_job
from api.context import Here
from api.paging import decode_cursor, encode_cursor, json_response, page_of
from api.problems import documented
from api.schemas.jobs import JobPage, JobsAsked, SummaryOut
from api.schemas.text import Id
from api.turns import InTurn
from store.facets import summary
from store.insights import list_jobs
from store.records import job_record, job_summary_record

router = APIRouter(tags=["jobs"], route_class=InTurn)
JobId = Annotated[Id, Path(description="The job's number.")]


@router.get("/jobs", operation_id="list_jobs", summary="Jobs, the newest first", response_model=JobPage)
def get_jobs(request: Request, here: Here, caller: Reader, asked: Annotated[JobsAsked, Query()]) -> Response:
    """Your jobs; an administrator sees everybody's, or with `owner` those of one."""
    binding = ["jobs", caller.owners, asked.model_dump(mode="json", exclude={"cursor", "limit"})]
    before = decode_cursor(asked.cursor, binding, int)
    rows = list_jobs(
        here.database,
        states=asked.state,
        limit=asked.limit + 1,
        before=before[0] if before else None,
        owner=asked.owner if caller.owners is None else caller.owners,
        kind=asked.kind,
        model=asked.model,
        since=asked.since.timestamp() if asked.since else None,
        until=asked.until.timestamp() if asked.until else None,
    )
    if asked.owner is not None and not caller.sees(asked.owner):
        rows = []
    return page_of(request, rows, asked.limit, lambda row: encode_cursor([row.id], binding), job_record)


@router.get(
    "/jobs/{job}/summary",
    operation_id="get_job_summary",
    summary="How a job went",
    response_model=SummaryOut,
    responses=documented("not-found"),
)
def get_summary(
    request: Request,
    here: Here,
    caller: Reader,
    job: JobId,
    classes: Annotated[int, Query(ge=1, le=1000, description="How many classes, the most frequent first.")] = 10,
) -> Response:
    """Classes, reasons of failure, agreement with given labels: from counts that are kept, at no cost."""
    may_see_job(here, caller, job)
    return json_response(request, job_summary_record(summary(here.database, job, classes)))
