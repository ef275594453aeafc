"""Results: pages in five orders under a filter, across jobs too, and the counts to choose from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import Caller, Reader, may_see_job
from api.context import Here
from api.paging import decode_cursor, encode_cursor, json_response, page_response
from api.problems import Problem, documented
from api.routes.jobs import JobId
from api.schemas.results import AcrossAsked, AcrossExportAsked, FacetsAsked, FacetsOut, Results, ResultsAsked
from api.turns import InTurn
from store.across import Scope, page_across
from store.facets import facets
from store.query import key_kinds, page
from store.records import facets_record, result_record

router = APIRouter(tags=["results"], route_class=InTurn)


@router.get(
    "/jobs/{job}/results",
    operation_id="list_results",
    summary="Results of a job",
    response_model=Results,
    responses=documented("not-found", "bad-cursor"),
)
def get_results(
    request: Request, here: Here, caller: Reader, job: JobId, asked: Annotated[ResultsAsked, Query()]
) -> Response:
    """Orders by score show classified images only. A page may be short, even empty, while `next` is there."""
    head = may_see_job(here, caller, job)
    chosen = asked.filter()
    binding = ["results", job, _binding(asked)]
    after = decode_cursor(asked.cursor, binding, *key_kinds(chosen, asked.order))
    found = page(here.database, head, chosen, asked.order, asked.limit, after)
    cursor = None if found.after is None else encode_cursor(found.after, binding)
    return page_response(request, [result_record(row) for row in found.rows], cursor)


@router.get(
    "/jobs/{job}/facets",
    operation_id="get_facets",
    summary="What there is to choose from",
    response_model=FacetsOut,
    responses=documented("not-found"),
)
def get_facets(
    request: Request, here: Here, caller: Reader, job: JobId, asked: Annotated[FacetsAsked, Query()]
) -> Response:
    """Counts of labels, failures, agreement and scores; without a filter exact, whatever the job's size."""
    head = may_see_job(here, caller, job)
    return json_response(request, facets_record(facets(here.database, head, asked.filter(), asked.limit)))


@router.get(
    "/results",
    operation_id="list_results_across_jobs",
    summary="Results of several jobs",
    response_model=Results,
    responses=documented("bad-cursor", "too-broad"),
)
def get_results_across(
    request: Request, here: Here, caller: Reader, asked: Annotated[AcrossAsked, Query()]
) -> Response:
    """Of a model, or with a label: the newest job first, inside a job in the order asked for."""
    scope, chosen = scope_of(caller, asked), asked.filter()
    binding = ["across", caller.owners, _binding(asked)]
    kinds = key_kinds(chosen, asked.order)
    try:
        after = decode_cursor(asked.cursor, binding, int, *kinds)
    except Problem:
        after = decode_cursor(asked.cursor, binding, int)  # between two jobs
    found = page_across(here.database, scope, chosen, asked.order, asked.limit, after)
    cursor = None if found.after is None else encode_cursor(found.after, binding)
    return page_response(request, [result_record(row) for row in found.rows], cursor)


def scope_of(caller: Caller, asked: AcrossAsked | AcrossExportAsked) -> Scope:
    """The jobs that are asked. Raises Problem too-broad where nothing limits them."""
    if asked.model is None and asked.label is None:
        raise Problem("too-broad", "Expected `model` or `label`: all results of all jobs are no question.")
    return Scope(caller.owners, asked.model)


def _binding(asked: ResultsAsked) -> dict[str, object]:
    return asked.model_dump(mode="json", exclude={"cursor", "limit"})
