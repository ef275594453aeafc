"""Following a job: its events as a stream, and its history as pages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from api.access import Reader, may_see_job, own_job
from api.context import Context, Here
from api.following.hub import Hub
from api.following.position import Position
from api.following.stream import EventStream
from api.paging import decode_cursor, encode_cursor, page_response
from api.problems import Problem, documented
from api.schemas.events import ONE_EVENT, STREAM_EXAMPLE, ForSeconds, LastEventId, LogPage
from api.schemas.pages import DEFAULT_LIMIT, Cursor, Limit
from api.schemas.text import Id
from store import tokens
from store.events import EventRow, events_after, last_event
from store.moments import rfc3339

router = APIRouter(tags=["following"])


def place(here: Here, caller: Reader) -> Iterator[None]:
    """A place among the streams, held until the stream has ended. Raises Problem 503."""
    with here.part(Hub).place(caller.token_id):
        yield


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `state`, `progress`, `epoch` and, last, `end`; comments keep the connection alive.",
        "content": {"text/event-stream": {"schema": ONE_EVENT, "example": STREAM_EXAMPLE}},
    },
    204: {"description": "Nothing has happened since the `end` with this id: there is no need to come back."},
}


@router.get(
    "/jobs/{job}/events",
    operation_id="follow_job",
    summary="Follow a job as server-sent events",
    response_class=EventStream,
    status_code=200,  # the class has no default that FastAPI could describe
    responses={**_STREAM, **documented("not-found", "bad-cursor", "too-many-streams")},
    dependencies=[Depends(place)],
)
def follow_job(
    here: Here,
    caller: Reader,
    job: Id,
    last_event_id: Annotated[LastEventId | None, Header()] = None,
    for_s: Annotated[ForSeconds | None, Query()] = None,
) -> Response:
    """The job's history since `Last-Event-ID` (else since its beginning), then what happens until the job ends.

    No state and no epoch is left out or told twice when a client comes back with the last `id` that it has received.
    """
    row = own_job(here, caller, job)
    position = _position(last_event_id)
    if position.ended and row.state.is_final and last_event(here.database, job) <= position.event:
        return Response(status_code=204)
    return EventStream(here.part(Hub), job, position, partial(_holds, here, caller.token_id), for_s)


def _holds(here: Context, token_id: str) -> bool:
    """Whether a token is still one. Raises StoreError."""
    found = tokens.get(here.database, token_id)
    return found is not None and not (found.is_revoked or found.is_expired)


def _position(last_event_id: str | None) -> Position:
    try:
        return Position() if not last_event_id else Position.parse(last_event_id)
    except ValueError as error:
        raise Problem("bad-cursor", str(error)) from error


@router.get(
    "/jobs/{job}/log",
    operation_id="read_log",
    summary="The history of a job",
    response_model=LogPage,
    responses=documented("not-found", "bad-cursor"),
)
def read_log(
    request: Request,
    here: Here,
    caller: Reader,
    job: Id,
    limit: Annotated[Limit, Query()] = DEFAULT_LIMIT,
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """The events of a job, oldest first."""
    may_see_job(here, caller, job)
    binding = ["log", job]
    after = decode_cursor(cursor, binding, int)
    found = events_after(here.database, job, after[0] if after else 0, limit + 1)
    shown = found[:limit]
    more = encode_cursor([shown[-1].id], binding) if len(found) > limit else None
    return page_response(request, [_entry(row) for row in shown], more)


def _entry(row: EventRow) -> dict[str, Any]:
    return {"id": row.id, "job": row.job_id, "at": rfc3339(row.at), "kind": row.kind, "data": row.data}
