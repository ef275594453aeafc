"""Corrections: what a person says an item is, beside the prediction and never over it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import Caller, Reader, Submitter, may_see_job
from api.context import Context, Here
from api.paging import decode_cursor, encode_cursor, json_response, page_of
from api.problems import documented
from api.routes.items import ItemIdx
from api.routes.jobs import JobId
from api.schemas.results import CorrectionList, CorrectionOut, LabelsAsked, NewLabel
from store import corrections, tokens
from store.records import correction_record

router = APIRouter(tags=["items"])


def _author(here: Context, caller: Caller) -> str:
    """Who says it: the owner, or the token's name where it has none."""
    found = tokens.get(here.database, caller.token_id)
    return (caller.owner or (found.name if found else "") or caller.token_id)[:64]


@router.put(
    "/jobs/{job}/items/{idx}/label",
    operation_id="set_label",
    summary="Say what an item is",
    response_model=CorrectionOut,
    responses=documented("not-found"),
)
def put_label(request: Request, here: Here, caller: Submitter, job: JobId, idx: ItemIdx, body: NewLabel) -> Response:
    """The newest label counts; what was said before stays in the history."""
    may_see_job(here, caller, job)
    said = corrections.correct(here.database, job, idx, body.label, _author(here, caller))
    return json_response(request, correction_record(said))


@router.delete(
    "/jobs/{job}/items/{idx}/label",
    operation_id="withdraw_label",
    summary="Take back what was said of an item",
    status_code=204,
    responses=documented("not-found"),
)
def delete_label(here: Here, caller: Submitter, job: JobId, idx: ItemIdx) -> Response:
    """Also where nothing was said: then nothing happens."""
    may_see_job(here, caller, job)
    corrections.withdraw(here.database, job, idx, _author(here, caller))
    return Response(status_code=204)


@router.get(
    "/jobs/{job}/items/{idx}/labels",
    operation_id="list_labels",
    summary="What was said of an item, and by whom",
    response_model=CorrectionList,
    responses=documented("not-found", "bad-cursor"),
)
def get_labels(
    request: Request, here: Here, caller: Reader, job: JobId, idx: ItemIdx, asked: Annotated[LabelsAsked, Query()]
) -> Response:
    """The oldest first; the last one of all counts, unless its label is null."""
    may_see_job(here, caller, job)
    binding = ["labels", job, idx]
    (after,) = decode_cursor(asked.cursor, binding, int) or (0,)
    said = corrections.history(here.database, job, idx, after=after, limit=asked.limit + 1)
    return page_of(request, said, asked.limit, lambda row: encode_cursor((row.id,), binding), correction_record)
