"""What can be done with a job that is there: pause, resume, cancel, retry, another priority, delete; one or many."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response

from api.access import Caller, Submitter, own_job
from api.context import Context, Here
from api.known_jobs import KnownJobs
from api.problems import Problem, documented, problem_of
from api.schemas.jobs import Job as JobShape
from api.schemas.submit import Action, Actions, Cancel, Change, Outcome, Outcomes, Resume, Retry
from api.schemas.text import Id
from api.submission.service import Submissions
from store import insights, jobs, removal
from store.errors import StoreError, UnknownJob
from store.records import job_record
from store.states import JobState

router = APIRouter(tags=["control"])

JobId = Annotated[Id, Path(description="The job's number.")]
Record = dict[str, Any]
REFUSALS = (
    "bad-request", "unauthorized", "forbidden", "not-found", "illegal-move", "invalid", "contradictory", "rate-limited",
    "too-large", "unsupported-media-type", "database-unavailable", "disk-full",
)  # fmt: skip
MOVED = documented(*REFUSALS)


@router.post(
    "/jobs/{job}/pause", operation_id="pauseJob", summary="Pause a job", response_model=JobShape, responses=MOVED
)
def pause_job(job: JobId, here: Here, caller: Submitter) -> Record:
    """Hand out no more of it; workers give back theirs after the current batch."""
    return _act(here, caller, job, Actions(action="pause", jobs=[job]))


@router.post(
    "/jobs/{job}/resume",
    operation_id="resumeJob",
    summary="Resume a paused job, or the rest of one that failed",
    response_model=JobShape,
    responses=documented(*REFUSALS, "nothing-to-do", "queue-full"),
)
def resume_job(job: JobId, here: Here, caller: Submitter, body: Annotated[Resume | None, Body()] = None) -> Record:
    """Let it go on where it was; of one that failed, what failed stays as it is."""
    limit = body.max_failures if body is not None else None
    return _act(here, caller, job, Actions(action="resume", jobs=[job], max_failures=limit))


@router.post(
    "/jobs/{job}/cancel", operation_id="cancelJob", summary="Cancel a job", response_model=JobShape, responses=MOVED
)
def cancel_job(job: JobId, here: Here, caller: Submitter, body: Annotated[Cancel | None, Body()] = None) -> Record:
    """End it; the results that are there stay. Where its images are still being looked for, it ends without any."""
    keep_best = body.keep_best if body is not None else False
    return _act(here, caller, job, Actions(action="cancel", jobs=[job], keep_best=keep_best))


@router.post(
    "/jobs/{job}/retry",
    operation_id="retryJob",
    summary="Run again what failed, and what was never run",
    response_model=JobShape,
    responses=documented(*REFUSALS, "nothing-to-do", "queue-full"),
)
def retry_job(job: JobId, here: Here, caller: Submitter, body: Annotated[Retry | None, Body()] = None) -> Record:
    """All that failed, or only what failed with these codes, or none of it; in any case what has no result yet."""
    asked = body if body is not None else Retry()
    return _act(here, caller, job, Actions(action="retry", jobs=[job], **asked.model_dump()))


@router.patch(
    "/jobs/{job}", operation_id="changeJob", summary="Change a job's priority", response_model=JobShape, responses=MOVED
)
def change_job(job: JobId, body: Change, here: Here, caller: Submitter) -> Record:
    """0 goes first, 9 last. What workers have in hand is not taken away from them."""
    return _act(here, caller, job, Actions(action="priority", jobs=[job], priority=body.priority))


@router.delete(
    "/jobs/{job}",
    operation_id="deleteJob",
    summary="Delete a job with its rows",
    status_code=204,
    response_class=Response,
    responses=MOVED,
)
def delete_job(job: JobId, here: Here, caller: Submitter) -> Response:
    """One that has ended, or whose images are still being looked for. The run of a training stays, with its model."""
    _move(here, caller, job, Actions(action="delete", jobs=[job]))
    return Response(status_code=204)


@router.post(
    "/job-actions",
    operation_id="actOnJobs",
    summary="Do the same with many jobs",
    response_model=Outcomes,
    responses=documented(*(kind for kind in REFUSALS if kind not in ("not-found", "illegal-move"))),
)
def act_on_jobs(body: Actions, here: Here, caller: Submitter) -> dict[str, list[Record]]:
    """Each for itself: that one job refuses does not keep the others from it."""
    return {"outcomes": [_outcome(here, caller, job, body) for job in body.jobs]}


def _outcome(here: Context, caller: Caller, job_id: int, asked: Actions) -> Record:
    try:
        _move(here, caller, job_id, asked)
        state = None if asked.action == "delete" else insights.job(here.database, job_id).state.value
    except (Problem, StoreError) as error:
        problem = problem_of(error)
        if problem is None or problem.status_code >= 500:
            raise
        told = {"type": f"/errors#{problem.kind}", "status": problem.status_code, "detail": problem.detail}
        return Outcome(job=job_id, ok=False, state=None, problem=told).model_dump()
    return Outcome(job=job_id, ok=True, state=state, problem=None).model_dump()


def _act(here: Context, caller: Caller, job_id: int, asked: Actions) -> Record:
    _move(here, caller, job_id, asked)
    return job_record(insights.job(here.database, job_id))


def _move(here: Context, caller: Caller, job_id: int, asked: Actions) -> None:
    """Do it to one job. Raises Problem, IllegalMove, NothingToDo, StoreError."""
    row = own_job(here, caller, job_id)
    action: Action = asked.action
    if action == "pause":
        jobs.pause(here.database, job_id)
    elif action == "cancel":
        _cancel(here, job_id, keep_best=asked.keep_best)
    elif action == "delete":
        try:
            _delete(here, job_id, row.state)
        finally:
            here.part(KnownJobs).forget(job_id)
    elif asked.priority is not None:
        jobs.set_priority(here.database, job_id, asked.priority)
    else:
        _go_on(here, caller, job_id, asked)
        here.part(Submissions).bell.ring(job_id, "train" if row.kind == "finetune" else "classify")


def _cancel(here: Context, job_id: int, *, keep_best: bool) -> None:
    scan = here.part(Submissions).ticket(job_id)
    jobs.cancel(here.database, job_id, keep_best=keep_best)
    if scan is not None:
        scan.unwanted.set()  # one of another process finds it out at its next write


def _go_on(here: Context, caller: Caller, job_id: int, asked: Actions) -> None:
    limits: dict[str, Any] = {"max_failures": asked.max_failures, "most": caller.limits.queued_items}
    if asked.action == "resume":
        jobs.resume(here.database, job_id, **limits)
    else:
        jobs.retry(here.database, job_id, asked.codes, what=asked.what, **limits)


def _delete(here: Context, job_id: int, state: JobState) -> None:
    if state is JobState.SCANNING and here.part(Submissions).abort(job_id):
        try:
            state = insights.job(here.database, job_id).state
        except UnknownJob:
            return  # its scan has removed it
    removal.remove(here.database, job_id)
