"""What the client makes of records: the very rows that the records were made of."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from api.client import shapes
from store import records
from store.evaluations import Flips
from store.facets import Summary
from store.results import ResultRow
from store.rows import JobRow
from store.run_rows import EpochRow, FlipRow, RunRow
from store.states import JobState
from worker.comparing import Comparison, comparison_record
from worker.measuring import Measured, evaluation_record
from worker.scores import score_classes

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
COUNT = st.integers(0, 10**9)
ID = st.integers(1, 2**53 - 1)
MILLISECONDS = st.integers(0, 4_000_000_000_000)
MOMENT = MILLISECONDS.map(lambda ms: ms / 1000)  # as exact as a record tells them
SCORE = st.floats(0, 1, allow_nan=False)
VALUES = st.dictionaries(TEXT, st.none() | st.booleans() | COUNT | SCORE | TEXT, max_size=3)
PATH = TEXT.map(str.encode)
FEW = settings(max_examples=40, deadline=None)

JOBS = st.builds(
    JobRow,
    id=ID,
    kind=st.sampled_from(["classify", "finetune"]),
    state=st.sampled_from(JobState),
    owner=TEXT,
    priority=st.integers(0, 9),
    description=TEXT,
    root=PATH,
    confined=st.booleans(),
    model_id=st.none(),
    model=st.none() | TEXT,
    top_k=st.integers(1, 20),
    reuse=st.booleans(),
    found=COUNT,
    classified=COUNT,
    failed=COUNT,
    reused=COUNT,
    ignored=st.dictionaries(TEXT, COUNT, max_size=3),
    created_at=MOMENT,
    started_at=st.none() | MOMENT,
    finished_at=st.none() | MOMENT,
    error=st.none() | TEXT,
)
RESULTS = st.builds(
    ResultRow,
    job_id=ID,
    idx=COUNT,
    path=PATH,
    file_name=TEXT,
    member=st.none() | TEXT,
    status=st.sampled_from(["ok", "failed"]),
    label=st.none() | TEXT,
    score=st.none() | SCORE,
    topk=st.lists(st.fixed_dictionaries({"label": TEXT, "score": SCORE}), max_size=3),
    true_label=st.none() | TEXT,
    error_code=st.none() | TEXT,
    error=st.none() | TEXT,
    model=st.none() | TEXT,
    external_id=st.none() | TEXT,
    extra=st.dictionaries(TEXT, TEXT, max_size=3),
    width=st.none() | COUNT,
    height=st.none() | COUNT,
    content_hash=st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex),
    reused=st.booleans(),
    agrees=st.none() | st.booleans(),
    correction=st.none() | TEXT,
    created_at=MOMENT,
)


@given(JOBS)
@FEW
def test_a_job_comes_back_from_its_record(row: JobRow) -> None:
    assert shapes.job_of(records.job_record(row)) == row


@given(RESULTS)
@FEW
def test_a_result_comes_back_from_its_record(row: ResultRow) -> None:
    assert shapes.result_of(records.result_record(row)) == row


def test_a_name_that_is_not_utf_8_comes_back_as_it_is_shown() -> None:
    row = _some_result()._replace(path=b"/photos/caf\xe9.jpg")
    back = shapes.result_of(records.result_record(row))
    assert back.path == rb"/photos/caf\xe9.jpg"
    assert records.result_record(back) == records.result_record(row)


def _some_result() -> ResultRow:
    return ResultRow(
        job_id=1, idx=0, path=b"/a.jpg", file_name="a.jpg", member=None, status="ok", label="ant", score=0.5, topk=[],
        true_label=None, error_code=None, error=None, model="birds@1", external_id=None, extra={}, width=1, height=1,
        content_hash=None, reused=False, agrees=None, correction=None, created_at=1.0,
    )  # fmt: skip


@FEW
@given(st.builds(EpochRow, metrics=st.dictionaries(TEXT, SCORE, max_size=2)))
def test_an_epoch_comes_back_from_its_record(row: EpochRow) -> None:
    record = records.epoch_record(row)
    assert records.epoch_record(shapes.epoch_of(record)) == record or "nan" in str(record)


@FEW
@given(JOBS, st.lists(st.tuples(TEXT, COUNT), max_size=3), st.lists(st.tuples(TEXT, COUNT, TEXT), max_size=3))
def test_a_summary_comes_back_from_its_record(
    row: JobRow, classes: list[tuple[str, int]], failures: list[tuple[str, int, str]]
) -> None:
    found = Summary(row, classes, failures, (3, 4))
    record = records.job_summary_record(found)
    assert shapes.summary_of(record) == found


RUNS = st.builds(
    RunRow,
    id=ID,
    uid=TEXT,
    job_id=st.none() | ID,
    name=TEXT,
    state=st.sampled_from(["queued", "running", "paused", "done", "failed", "cancelled"]),
    stage=TEXT,
    progress=VALUES,
    recipe=st.fixed_dictionaries({"mode": st.just("head"), "base": TEXT}),
    options=VALUES,
    census=VALUES,
    libraries=st.dictionaries(TEXT, TEXT, max_size=2),
    base_model=st.none() | TEXT,
    base_model_id=st.none(),
    model_id=st.none(),
    checkpoint=st.none(),
    checkpoint_step=st.none(),
    checkpoint_epoch=st.none() | COUNT,
    best_value=st.none() | SCORE,
    accuracy=st.none() | SCORE,
    top5=st.none() | SCORE,
    created_at=MOMENT,
    started_at=st.none() | MOMENT,
    finished_at=st.none() | MOMENT,
)


@given(RUNS)
@FEW
def test_a_run_has_the_same_record_after_the_journey(row: RunRow) -> None:
    record = records.run_record(row, unreadable=3, evaluated_on="validation")
    assert records.run_record(shapes.run_of(record), unreadable=3, evaluated_on="validation") == record


FLIP = FlipRow("/a.jpg", "ant", "ant", 0.9, "bee", 0.8, gained=False)


def test_a_comparison_comes_back_from_its_record() -> None:
    found = Comparison(
        settings={"epochs": (3, None)},
        metrics={"seconds": (1.5, None), "epochs": (3, 4)},
        classes={"ant": (0.5, None, 3)},
        flips=Flips([FLIP], [replace(FLIP, gained=True)], 1, 20_000),
    )
    run = shapes.run_of(_run_record())
    assert shapes.comparison_of(comparison_record(run, run, found)) == found


def _run_record() -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(
        ("job_id", "stage", "progress", "model", "base", "best_epoch", "best_value", "unreadable", "accuracy", "top5")
    )
    more = dict.fromkeys(("evaluation_job_id", "evaluated_on", "report", "continued_from", "fingerprint", "seed"))
    rest = dict.fromkeys(("device", "code_version", "started_at", "finished_at", "error"))
    known = {
        "run": 1,
        "uid": "u",
        "base_model": None,
        "options": {},
        "keep_best": False,
        "checkpoint_epoch": None,
        "name": "finches",
        "state": "done",
        "recipe": {},
        "monitor": "val_loss",
        "census": {},
    }
    images = {"train": 1, "val": 1, "test": None}
    moment = "2026-11-22T01:30:00.123Z"
    numbers = {"epochs": 1, "epochs_planned": 1, "images": images, "libraries": {}, "created_at": moment}
    return {**empty, **more, **rest, **known, **numbers}


@FEW
@given(st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(1, 99), min_size=1))
def test_an_evaluation_comes_back_from_its_confusion_matrix(cells: dict[tuple[int, int], int]) -> None:
    names = ("ant", "bee", "cat")
    scores = score_classes(names, cells)
    images, right = sum(cells.values()), sum(n for (true, guess), n in cells.items() if true == guess)
    found = Measured(
        labels=names, images=images, correct=right, accuracy=right / images, top5=1.0, k=3, macro=scores.macro,
        weighted=scores.weighted, classes=scores.classes, cells=cells, calibration=(), ece=0.1,
    )  # fmt: skip
    assert shapes.measured_of(evaluation_record(found), top_k=5) == found
