"""POST /classify: one image, its answer at once, through the same queue as everything else."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api.access import Submitter
from api.context import Here
from api.guards import raw_body
from api.problems import Problem, documented
from api.routes.submit import REFUSALS, PreferHeader, accept, answer
from api.schemas.jobs import Job as JobShape
from api.schemas.results import Result
from api.schemas.submit import ClassifyJob, Quick
from api.schemas.submit import Upload as UploadSource
from api.submission.waiting import Waiters, wished
from api.uploads.folders import remove_upload
from api.uploads.names import clean_name
from api.uploads.receiving import Reception
from store import insights, results, uploads
from store.records import result_record
from worker.sources.archive import is_archive
from worker.sources.manifest import is_manifest

router = APIRouter(tags=["submit"])

WAIT_S = 10.0
FIRST = 0  # its priority: a person waits

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The image's bytes.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}},
    }
}


@router.post(
    "/classify",
    operation_id="classifyImage",
    summary="Classify one image",
    response_model=Result,
    responses={
        202: {"model": JobShape, "description": "It takes longer: ask the job."},
        **documented(*REFUSALS, "upload-full", "bad-name"),
    },
    openapi_extra=BODY,
)
@raw_body
async def classify_image(
    request: Request,
    here: Here,
    caller: Submitter,
    query: Annotated[Quick, Query()],
    prefer: PreferHeader = None,
) -> JSONResponse:
    """The image's row: its label and score, or the reason why not. `Prefer: wait=N` says how long to wait for it.

    The body is the image itself. It is an upload and a job like any other, so nothing of it is lost when the time is
    up: the answer is 202 then, with the job to ask.
    """
    called = _called(query.name)
    upload = await run_in_threadpool(uploads.create, here.database, caller.owner)
    try:
        await Reception(here, caller, upload, called).receive(request)
        asked = ClassifyJob(
            kind="classify", source=UploadSource(upload=upload.id), model=query.model, top_k=query.top_k, priority=FIRST
        )
        job_id, _ = await accept(here, caller, asked)
        request.state.job = job_id  # for the log
    except BaseException:
        await run_in_threadpool(remove_upload, here, upload.id)
        raise
    wait_s = wished(prefer, WAIT_S)

    def result() -> results.ResultRow | None:
        if insights.job(here.database, job_id).classified + insights.job(here.database, job_id).failed == 0:
            return None
        return next(results.stream(here.database, job_id), None)

    row = await here.part(Waiters).until(result, wait_s, request) if wait_s else None
    if row is None:
        return await answer(here, job_id)
    return JSONResponse(result_record(row), headers={"Content-Location": f"/api/v1/jobs/{job_id}/items/0"})


def _called(name: str) -> str:
    """A clean name of one part that is read as an image whatever its ending. Raises Problem."""
    called = clean_name(name)
    if "/" in called:
        raise Problem("bad-name", f"Expected the name of one image, got a path: {name[:100]!r}.")
    if is_archive(called) or is_manifest(called):
        raise Problem(
            "bad-name", f"Expected one image, got {name[:100]!r}: upload archives and manifests, then submit."
        )
    return called
