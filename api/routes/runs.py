"""Runs: the history of every training, how good its model was, and two of them beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.access import Caller, Reader, Submitter, own_job
from api.context import Context, Here
from api.measurements import Evaluated, Measurements, Ready
from api.paging import decode_cursor, encode_cursor, is_known, json_response, page_response
from api.problems import Problem, documented
from api.schemas import runs as schemas
from api.schemas.pages import Cursor, Limit
from api.schemas.results import Results
from api.schemas.text import Id, Plain
from api.turns import InTurn
from models.datasets.splits import understand
from store.errors import UnknownRun
from store.query import key_kinds, page
from store.records import epoch_record, result_record, run_record
from store.results import Filter
from store.run_data import findings_page
from store.run_facts import facts_of
from store.run_rows import RunRow
from store.runs import epochs_of, list_runs, resolve_run
from worker.measuring import calibration_records, cell_records, class_records
from worker.recording import record_measured

router = APIRouter(tags=["runs"], route_class=InTurn)

Word = Annotated[str, Field(min_length=1, max_length=128), Plain]
RunWord = Annotated[Word, Path(description="Its number, its name (the newest), or the model it made, `birds@3`.")]
Name = Annotated[Word, Query(description="Only runs of this name.")]
MISSING = documented("not-found")
MEASURED = documented("not-found", "unavailable")
T = TypeVar("T")


def own_run(here: Context, caller: Caller, word: str) -> RunRow:
    """A run that the caller may see, by number, name or model. Raises Problem 404, the same for another owner's."""
    try:
        found: RunRow | None = resolve_run(here.database, word)
    except UnknownRun:
        found = None
    if found is not None and caller.sees(found.owner):
        return found
    mine = list_runs(here.database, limit=1, owner=caller.owners, name=word.strip())  # another's may be newer
    if not mine:
        raise Problem("not-found", f"There is no run {word!r}.")
    return mine[0]


def run_of(here: Here, caller: Reader, run: RunWord) -> RunRow:
    """The run that the address names."""
    return own_run(here, caller, run)


Run = Annotated[RunRow, Depends(run_of)]


def evaluated_of(here: Here, run: Run) -> Evaluated:
    """The evaluation of the run that the address names. Raises Problem 404 where it has none, or 503."""
    return _evaluated(here, run.evaluation_job_id, f"Run {run.id}")


Examined = Annotated[Evaluated, Depends(evaluated_of)]


@router.get("/runs", operation_id="list_runs", summary="Runs, the newest first", response_model=schemas.Runs)
def runs(
    request: Request,
    here: Here,
    caller: Reader,
    name: Name | None = None,
    limit: Limit = 100,
    cursor: Cursor | None = None,
) -> Response:
    """Those of the caller's owner; an administrator sees all."""
    binding = ["runs", name, caller.owners]
    after = decode_cursor(cursor, binding, int)
    found = list_runs(here.database, limit=limit, before=after[0] if after else None, owner=caller.owners, name=name)
    following = encode_cursor((found[-1].id,), binding) if len(found) == limit else None
    return page_response(request, _records(here, found), following)


@router.get(
    "/runs/compare",
    operation_id="compare_runs",
    summary="Two runs beside each other",
    response_model=schemas.Comparison,
    responses=documented("not-found", "contradictory", "unavailable"),
)
def compare(request: Request, here: Here, caller: Reader, a: Word, b: Word) -> Response:
    """Settings that differ, best epochs, evaluations, classes, and the images that changed sides."""
    one, other = own_run(here, caller, a), own_run(here, caller, b)
    if one.id == other.id:
        raise Problem("contradictory", f"{a!r} and {b!r} are the same run, {one.id}. Expected two.")
    return _ready(request, here.part(Measurements).of_runs(one, other))


@router.get("/runs/{run}", operation_id="get_run", summary="One run", response_model=schemas.Run, responses=MISSING)
def show(request: Request, here: Here, run: Run) -> Response:
    """What was chosen, how far it is, what came out."""
    return json_response(request, _records(here, [run])[0])


@router.get(
    "/runs/{run}/recipe",
    operation_id="get_recipe",
    summary="Every choice of one training",
    response_model=dict[str, Any],
    responses=MISSING,
)
def recipe(request: Request, run: Run) -> Response:
    """As `POST /jobs` takes it, to train the same way again."""
    return json_response(request, run.recipe)


@router.get(
    "/runs/{run}/epochs",
    operation_id="list_epochs",
    summary="The epochs of a run, in order",
    response_model=schemas.Epochs,
    responses=MISSING,
)
def epochs(request: Request, here: Here, run: Run, limit: Limit = 1000, cursor: Cursor | None = None) -> Response:
    """One curve, with marks where an attempt began anew and at the best epoch."""
    return _slice(request, [epoch_record(one) for one in epochs_of(here.database, run.id)], list, limit, cursor)


@router.get(
    "/runs/{run}/evaluation",
    operation_id="get_run_evaluation",
    summary="How good the run's model is",
    response_model=schemas.Evaluation,
    responses=MEASURED,
)
def evaluation(request: Request, found: Examined) -> Response:
    """On the split or the pictures that the run was evaluated on."""
    return _ready(request, found.ready)


@router.get(
    "/jobs/{job}/evaluation",
    operation_id="get_evaluation",
    summary="How good a model was in a job over labelled images",
    response_model=schemas.Evaluation,
    responses=MEASURED,
)
def job_evaluation(request: Request, here: Here, caller: Reader, job: Id) -> Response:
    """Over what is classified so far."""
    found = _evaluated(here, own_job(here, caller, job).id, f"Job {job}")
    return _ready(request, found.ready)


@router.put(
    "/jobs/{job}/evaluation",
    operation_id="record_evaluation",
    summary="Write down how good a model was in a finished job over labelled images",
    response_model=schemas.Evaluation,
    responses=documented("not-found", "illegal-move", "invalid-recipe", "unavailable"),
)
def record_evaluation(
    here: Here, caller: Submitter, job: Id, body: Annotated[schemas.Recorded | None, Body()] = None
) -> Response:
    """The figures become a row of the database, which `v_evaluations` shows beside the others; again, they replace it.

    `pixmill evaluate` asks for it once its job is over. Answers with the figures.
    """
    row = own_job(here, caller, job)
    if not row.state.is_final:
        raise Problem("illegal-move", f"Job {job} is {row.state.value}: its figures are written down once it is over.")
    split = body.split if body is not None else None
    understand(split)
    found = _evaluated(here, job, f"Job {job}")
    record_measured(here.database, row, found.measured, split)
    return Response(found.ready.data, headers={"ETag": found.ready.tag}, media_type="application/json")


@router.get(
    "/runs/{run}/classes",
    operation_id="list_classes",
    summary="Precision, recall and F1 of every class",
    response_model=schemas.Classes,
    responses=MEASURED,
)
def classes(request: Request, found: Examined, limit: Limit = 1000, cursor: Cursor | None = None) -> Response:
    """In the model's order; labels that it does not know follow."""
    return _slice(request, class_records(found.measured), list, limit, cursor)


@router.get(
    "/runs/{run}/confusion",
    operation_id="list_confusion",
    summary="The confusion matrix, where it is not zero",
    response_model=schemas.Confusion,
    responses=MEASURED,
)
def confusion(request: Request, found: Examined, limit: Limit = 1000, cursor: Cursor | None = None) -> Response:
    """By true label, then by prediction, in the model's order."""
    return _slice(request, found.cells, lambda cells: cell_records(found.measured.labels, cells), limit, cursor)


@router.get(
    "/runs/{run}/calibration",
    operation_id="get_calibration",
    summary="Whether scores say how often the model is right",
    response_model=schemas.Calibration,
    responses=MEASURED,
)
def calibration(request: Request, found: Examined) -> Response:
    """Ten tenths of the scores."""
    items = calibration_records(found.measured)
    return json_response(request, {"calibration_error": found.measured.ece, "items": items, "next": None})


@router.get(
    "/runs/{run}/mistakes",
    operation_id="list_mistakes",
    summary="What the run's model got wrong, the most confident first",
    response_model=Results,
    responses=MISSING,
)
def mistakes(request: Request, here: Here, run: Run, limit: Limit = 100, cursor: Cursor | None = None) -> Response:
    """Results of its evaluation's job, as `GET /jobs/{job}/results` has them."""
    job = run.evaluation_job_id
    if job is None:
        raise _not_evaluated(f"Run {run.id}")
    binding, wrong = ["mistakes", job], Filter(wrong=True)
    after = decode_cursor(cursor, binding, *key_kinds(wrong, "most_wrong"))
    found = page(here.database, job, wrong, "most_wrong", limit, after)
    following = encode_cursor(found.after, binding) if found.after is not None else None
    return page_response(request, [result_record(row) for row in found.rows], following)


@router.get(
    "/runs/{run}/findings",
    operation_id="list_findings",
    summary="What was odd in the run's pictures",
    response_model=schemas.Findings,
    responses=MISSING,
)
def findings(request: Request, here: Here, run: Run, limit: Limit = 100, cursor: Cursor | None = None) -> Response:
    """Copies, leaks between the splits, copies with two labels, small classes."""
    binding = ["findings", run.id]
    after = decode_cursor(cursor, binding, int)
    found = findings_page(here.database, run.id, limit, after[0] if after else 0)
    following = encode_cursor((found[-1][0],), binding) if len(found) == limit else None
    return page_response(request, [asdict(row) for _, row in found], following)


def _records(here: Context, found: Sequence[RunRow]) -> list[dict[str, Any]]:
    facts = facts_of(here.database, found)
    return [
        run_record(run, unreadable=facts[run.id].unreadable, evaluated_on=facts[run.id].evaluated_on) for run in found
    ]


def _evaluated(here: Context, job: int | None, what: str) -> Evaluated:
    found = here.part(Measurements).of_job(job) if job is not None else None
    if found is None:
        raise _not_evaluated(what)
    return found


def _not_evaluated(what: str) -> Problem:
    return Problem("not-found", f"{what} has no evaluation: no labelled picture was classified, or not yet.")


def _ready(request: Request, ready: Ready) -> Response:
    """A body that is made already; 304 without it where the client has it."""
    sent = {"ETag": ready.tag, "Cache-Control": "private, no-cache"}
    if is_known(request.headers.get("if-none-match"), ready.tag):
        return Response(status_code=304, headers=sent)
    return Response(ready.data, headers=sent, media_type="application/json")


def _slice(
    request: Request,
    rows: Sequence[T],
    shown: Callable[[Sequence[T]], Sequence[dict[str, Any]]],
    limit: int,
    cursor: str | None,
) -> Response:
    """A page of rows that one run has few of, as `shown` makes JSON of them; the cursor is the next one's number."""
    binding = ["slice", request.scope["path"]]
    after = decode_cursor(cursor, binding, int)
    start = max(0, after[0]) if after else 0
    end = start + limit
    return page_response(request, shown(rows[start:end]), encode_cursor((end,), binding) if end < len(rows) else None)
