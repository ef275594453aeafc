"""POST /jobs: a job is taken, or what it would hold is estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api.access import Caller, Submitter
from api.context import Context, Here
from api.problems import documented
from api.schemas.jobs import Job as JobShape
from api.schemas.submit import Bytes, Estimate, Job
from api.submission.asked import AnyJob, Asked, ask
from api.submission.keys import replay, request_key
from api.submission.scanner import Ticket
from api.submission.service import Submissions
from api.submission.waiting import Waiters, over, wished
from models.references import split_reference
from store import insights, requests
from store.errors import KeyTaken
from store.records import job_record
from store.requests import RequestKey
from worker.estimate import Look, middle, speed

router = APIRouter(tags=["submit"])

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=257,
        pattern=r"^[!-~]+$",
        description="The same key with the same body makes one job.",
    ),
]
PreferHeader = Annotated[
    str | None,
    Header(max_length=256, description="`wait=N`: answer when the job is over, or after N seconds (at most 60)."),
]
REFUSALS = (
    "bad-request", "unauthorized", "forbidden", "root-not-allowed", "not-found", "in-flight", "conflict", "too-large",
    "unsupported-media-type", "invalid", "contradictory", "no-such-path", "unreadable-path", "bad-source",
    "unknown-model", "invalid-model", "invalid-recipe", "key-reused", "rate-limited", "queue-full",
    "database-unavailable", "unavailable", "disk-full",
)  # fmt: skip


class Sent:
    """What comes with a submission beside its body."""

    def __init__(self, request: Request, idempotency_key: KeyHeader = None, prefer: PreferHeader = None) -> None:
        self.request, self.key, self.prefer = request, idempotency_key, prefer


@router.post(
    "/jobs",
    operation_id="submitJob",
    summary="Submit a job",
    status_code=202,
    response_model=JobShape,
    responses={200: {"model": Estimate, "description": "With dry_run: what it would hold."}, **documented(*REFUSALS)},
)
async def submit_job(
    body: Job,
    here: Here,
    caller: Submitter,
    dry_run: Annotated[
        bool, Query(description="Make no job; say how many images it would have, and how long.")
    ] = False,
    *,
    sent: Annotated[Sent, Depends()],
) -> JSONResponse:
    """Accept a job. It is written down before this answers, whatever the broker does.

    A source that is quickly read is read before the answer: what is wrong with it is a problem then, and no job is
    made. One that takes longer is answered with the state `scanning`; what turns out to be wrong later makes the job
    `failed`, with the reason.
    """
    if dry_run:
        return await run_in_threadpool(_estimate, here, caller, body)
    key = request_key(caller.owner, sent.key, body.model_dump(mode="json"))
    job_id, replayed = await accept(here, caller, body, key)
    sent.request.state.job = job_id  # for the log
    return await answer(here, job_id, wished(sent.prefer), replayed=replayed, request=sent.request)


@dataclass(frozen=True, slots=True)
class _Taken:
    """The job that a key stands for already."""

    job_id: int | None
    matches: bool


async def accept(here: Context, caller: Caller, body: AnyJob, key: RequestKey | None = None) -> tuple[int, bool]:
    """Make the job, or find the one that the same request made: its id, and whether it was found."""
    begun = await run_in_threadpool(_begin, here, caller, body, key)
    if isinstance(begun, _Taken):
        return await replay(here, begun.job_id, matches=begun.matches), True
    await here.part(Submissions).settle(begun)
    return begun.job_id, False


def _begin(here: Context, caller: Caller, body: AnyJob, key: RequestKey | None) -> Ticket | _Taken:
    if key is not None and (known := requests.find(here.database, key.owner, key.key)) is not None:
        return _Taken(known.job_id, known.fingerprint == key.fingerprint)
    try:
        return here.part(Submissions).open(ask(here, caller, body), key)
    except KeyTaken as taken:
        return _Taken(taken.job_id, taken.fingerprint_matches)


async def answer(
    here: Context, job_id: int, wait_s: float = 0.0, *, replayed: bool = False, request: Request | None = None
) -> JSONResponse:
    """202 with the job, once it is over where the client would wait for that, and stays to hear it."""

    waiters = here.part(Waiters)
    row = await waiters.until(lambda: over(here, job_id), wait_s, request) if wait_s else None
    if row is None:
        row = await run_in_threadpool(insights.job, here.database, job_id)
    headers = {"Location": f"/api/v1/jobs/{job_id}"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s:.0f}"
    return JSONResponse(job_record(row), 202, headers)


def _estimate(here: Context, caller: Caller, body: AnyJob) -> JSONResponse:
    asked = ask(here, caller, body)
    found = here.part(Submissions).look(asked)
    return JSONResponse(_told(here, asked, found).model_dump())


def _told(here: Context, asked: Asked, found: Look) -> Estimate:
    per_second = None
    if asked.model is not None:
        name, version = split_reference(asked.model)
        per_second = speed(here.database, (name, int(version)))
    sizes: dict[str, Any] = {
        "total": sum(found.sizes),
        "smallest": None,
        "median": middle(found.sizes),
        "largest": None,
    }
    if found.sizes:
        sizes |= {"smallest": found.sizes[0], "largest": found.sizes[-1]}
    return Estimate(
        items=found.items,
        labelled=found.labelled,
        formats=found.formats,
        bytes=Bytes(**sizes),
        ignored=found.ignored,
        complete=found.complete,
        model=asked.model,
        images_per_s=round(per_second, 2) if per_second else None,
        seconds=round(found.items / per_second, 1) if per_second else None,
        warnings=_warnings(asked, found),
    )


def _warnings(asked: Asked, found: Look) -> list[str]:
    if asked.body.kind == "classify" or found.labelled == found.items:
        return []
    return [f"{found.items - found.labelled:,} of these have no label, and would be passed over."]
