"""Items of a job: what was accepted, and what became of each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.access import Reader, may_see_job
from api.context import Here
from api.paging import decode_cursor, encode_cursor, json_response, page_response
from api.problems import documented
from api.routes.jobs import JobId
from api.schemas.results import ItemDetailOut, ItemPage, ItemsAsked
from api.schemas.text import Index
from api.turns import InTurn
from store.item_query import item, item_way, items_page
from store.records import item_record, result_record

router = APIRouter(tags=["items"], route_class=InTurn)
ItemIdx = Annotated[Index, Path(description="The item's number in its job, from 0.")]


@router.get(
    "/jobs/{job}/items",
    operation_id="list_items",
    summary="Items of a job",
    response_model=ItemPage,
    responses=documented("not-found", "bad-cursor"),
)
def get_items(
    request: Request, here: Here, caller: Reader, job: JobId, asked: Annotated[ItemsAsked, Query()]
) -> Response:
    """By number; with `path_prefix` by name. A page may be short, even empty, while `next` is there."""
    head = may_see_job(here, caller, job)
    chosen = asked.filter()
    binding = ["items", job, asked.model_dump(mode="json", exclude={"cursor", "limit"})]
    kinds = (key.type.python_type for key in item_way(chosen).keys)
    found = items_page(here.database, head, chosen, asked.limit, decode_cursor(asked.cursor, binding, *kinds))
    cursor = None if found.after is None else encode_cursor(found.after, binding)
    return page_response(request, [item_record(row) for row in found.rows], cursor)


@router.get(
    "/jobs/{job}/items/{idx}",
    operation_id="get_item",
    summary="One item with its result",
    response_model=ItemDetailOut,
    responses=documented("not-found"),
)
def get_item(request: Request, here: Here, caller: Reader, job: JobId, idx: ItemIdx) -> Response:
    """`result` is null while the item is pending."""
    found, result = item(here.database, may_see_job(here, caller, job), idx)
    return json_response(request, {**item_record(found), "result": None if result is None else result_record(result)})
