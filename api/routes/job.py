"""One job with its pace: now, or once it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Reader, own_job
from api.context import Context, Here
from api.paging import json_response
from api.problems import documented
from api.routes.jobs import JobId
from api.schemas.jobs import JobDetailOut
from api.submission.waiting import PREFER, Waiters, over, wished
from api.turns import InTurn
from store import insights
from store.errors import UnknownRun
from store.records import job_record, progress_record
from store.rows import JobRow
from store.runs import run_of_job


class Awaited(InTurn):
    """A route of a job that a client may ask to wait for. Nobody has a place among the reads while it waits."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The answer; where the client would wait, the first one says only whether it may."""
        answer = super().get_route_handler()

        async def awaited(request: Request) -> Response:
            first = await answer(request)
            seconds = wished(request.headers.get("prefer"))
            return await _when_over(request, seconds) if seconds and first.status_code < 400 else first

        return awaited


router = APIRouter(tags=["jobs"], route_class=Awaited)


@router.get(
    "/jobs/{job}",
    operation_id="get_job",
    summary="One job, and how fast it goes",
    response_model=JobDetailOut,
    responses=documented("not-found"),
    openapi_extra={"parameters": [PREFER]},
)
def get_job(request: Request, here: Here, caller: Reader, job: JobId) -> Response:
    """As the events `progress` have it. With `Prefer: wait=N` once the job is over, or after N seconds."""
    return _told(request, here, own_job(here, caller, job))


async def _when_over(request: Request, seconds: float) -> Response:
    here: Context = request.app.state.context
    job_id = int(request.path_params["job"])
    row = await here.part(Waiters).until(lambda: over(here, job_id), seconds, request)
    if row is None:
        row = await run_in_threadpool(insights.job, here.database, job_id)
    answer = await run_in_threadpool(_told, request, here, row)
    answer.headers["Preference-Applied"] = f"wait={seconds:.0f}"
    return answer


def _told(request: Request, here: Context, row: JobRow) -> Response:
    found: dict[str, Any] = {**job_record(row), **progress_record(row, time.time()), "run": None}
    if row.kind == "finetune":
        try:
            found["run"] = run_of_job(here.database, row.id).id
        except UnknownRun:  # its row comes with the first items
            found["run"] = None
    return json_response(request, found)
