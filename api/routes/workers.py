"""The workers that serve this installation."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import READS
from api.context import Here
from api.paging import json_response
from api.schemas.pages import MOST
from api.schemas.workers import Workers
from store.records import worker_record
from store.workers import list_workers

router = APIRouter(tags=["workers"])


@router.get(
    "/workers",
    operation_id="list_workers",
    dependencies=[READS],
    summary="Workers, as they last reported",
    response_model=Workers,
)
def workers(request: Request, here: Here) -> Response:
    """The 1,000 heard of last, those first; `seen_at` is when that was."""
    found = [worker_record(asdict(row)) for row in list_workers(here.database)[:MOST]]
    return json_response(request, {"items": found, "next": None})
