"""Runs over HTTP: what the store knows, in pages, and only one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from sqlalchemy import update

from api.schemas import runs as schemas
from api.schemas.results import Results
from store import jobs as jobs_of
from store.catalog import register_model
from store.database import Database
from store.evaluations import evaluation
from store.rows import NewItem, NewJob
from store.run_rows import Finding, RunRow
from store.tables import jobs, runs
from tests.cli.histories import LABELS, History, evaluated, finished_run
from tests.serving import api_client, new_token
from worker.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient

FINDINGS = (
    Finding("leak", 0, 3, 0.0, "the same picture"),
    Finding("near_duplicate", 1, 2, 2.0, ""),
    Finding("small_class", detail="wren has 2"),
)


@pytest.fixture
def client(settings: Settings, store: Database) -> Iterator[TestClient]:
    with api_client(settings, []) as made:
        yield made


@pytest.fixture
def one(store: Database) -> RunRow:
    return finished_run(store, History(findings=FINDINGS, answers=("robin", "wren", "wren", "wren")))


def get(client: TestClient, path: str, **options: Any) -> Any:
    return client.get(f"/api/v1{path}", **options)


def give(store: Database, run: RunRow, owner: str) -> None:
    """Make a run another owner's."""
    with store.write() as connection:
        connection.execute(update(runs).where(runs.c.id == run.id).values(owner=owner))
        connection.execute(update(jobs).where(jobs.c.id.in_([run.job_id, run.evaluation_job_id])).values(owner=owner))


def reader(settings: Settings, owner: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {new_token(settings.database, owner, ('read',))}"}


def test_a_run_is_found_by_number_name_and_model(client: TestClient, one: RunRow) -> None:
    for word in (one.id, "finches", "finches@1"):
        found = get(client, f"/runs/{word}").json()
        assert (found["run"], found["name"], found["model"]) == (one.id, "finches", "finches@1")
    assert found["unreadable"] == 1
    assert found["evaluated_on"] == "validation"
    assert found["created_at"].endswith("Z")
    assert get(client, "/runs").json()["items"] == [found]
    assert get(client, f"/runs/{one.id}/recipe").json() == one.recipe


@pytest.mark.parametrize("word", ["999", "sparrows", "finches@2", "9" * 40, "..", "%2e%2e", "a%00b", "finches@", "@1"])
def test_a_run_that_is_not_there_is_404_or_refused(client: TestClient, one: RunRow, word: str) -> None:
    for path in (f"/runs/{word}", f"/runs/{word}/epochs", f"/runs/compare?a={word}&b=1"):
        assert get(client, path).status_code in (404, 422)


def test_epochs_classes_and_the_matrix_come_in_pages(client: TestClient, one: RunRow) -> None:
    first = get(client, f"/runs/{one.id}/epochs", params={"limit": 2}).json()
    assert [row["epoch"] for row in first["items"]] == [1, 2]
    rest = get(client, f"/runs/{one.id}/epochs", params={"limit": 2, "cursor": first["next"]}).json()
    assert ([row["epoch"] for row in rest["items"]], rest["next"]) == ([3], None)
    assert [row["label"] for row in get(client, f"/runs/{one.id}/classes").json()["items"]] == ["robin", "wren"]
    matrix = get(client, f"/runs/{one.id}/confusion").json()["items"]
    assert {(row["true"], row["predicted"]): row["images"] for row in matrix} == {
        ("robin", "robin"): 1, ("robin", "wren"): 1, ("wren", "wren"): 2,
    }  # fmt: skip
    assert sum(row["images"] for row in get(client, f"/runs/{one.id}/calibration").json()["items"]) == 4


def test_the_evaluation_of_run_and_job_are_the_same(client: TestClient, one: RunRow) -> None:
    found = get(client, f"/runs/{one.id}/evaluation").json()
    assert (found["images"], found["correct"], found["accuracy"]) == (4, 3, 0.75)
    assert get(client, f"/jobs/{one.evaluation_job_id}/evaluation").json() == found
    assert get(client, f"/jobs/{one.job_id}/evaluation").status_code == 404


@pytest.mark.parametrize(
    ("path", "schema"),
    [("", schemas.Run), ("/epochs", schemas.Epochs), ("/evaluation", schemas.Evaluation), ("/classes", schemas.Classes),
     ("/confusion", schemas.Confusion), ("/calibration", schemas.Calibration), ("/findings", schemas.Findings),
     ("/mistakes", Results)],
)  # fmt: skip
def test_every_answer_is_what_the_description_says(
    client: TestClient, one: RunRow, path: str, schema: type[BaseModel]
) -> None:
    schema.model_validate(get(client, f"/runs/{one.id}{path}").json())
    schemas.Runs.model_validate(get(client, "/runs").json())


def test_mistakes_are_results_the_most_confident_first(client: TestClient, one: RunRow) -> None:
    found = get(client, f"/runs/{one.id}/mistakes").json()
    assert [(row["true_label"], row["label"], row["job_id"]) for row in found["items"]] == [
        ("robin", "wren", one.evaluation_job_id)
    ]


def test_findings_come_in_pages_in_their_order(client: TestClient, one: RunRow) -> None:
    first = get(client, f"/runs/{one.id}/findings", params={"limit": 2}).json()
    rest = get(client, f"/runs/{one.id}/findings", params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["kind"] for row in (*first["items"], *rest["items"])] == ["leak", "near_duplicate", "small_class"]
    assert first["items"][0]["path"] == "/photos/0.jpg"


def test_runs_come_in_pages_the_newest_first_and_by_name(client: TestClient, store: Database, one: RunRow) -> None:
    others = [finished_run(store, History(name="tits", version=n)).id for n in (1, 2)]
    first = get(client, "/runs", params={"limit": 2})
    assert [row["run"] for row in first.json()["items"]] == others[::-1]
    assert 'rel="next"' in first.headers["link"]
    rest = get(client, "/runs", params={"limit": 2, "cursor": first.json()["next"]}).json()
    assert [row["run"] for row in rest["items"]] == [one.id]
    assert [row["run"] for row in get(client, "/runs", params={"name": "finches"}).json()["items"]] == [one.id]
    wrong = get(client, "/runs", params={"name": "finches", "cursor": first.json()["next"]})
    assert (wrong.status_code, wrong.json()["type"]) == (422, "/errors#bad-cursor")


def test_two_runs_are_compared(client: TestClient, store: Database, one: RunRow) -> None:
    other = finished_run(store, History(version=2, learning_rate=0.5))
    found = get(client, "/runs/compare", params={"a": one.id, "b": "finches@2"}).json()
    assert (found["a"]["run"], found["b"]["run"]) == (one.id, other.id)
    assert [flip["path"] for flip in found["wrong_to_right"]] == ["/photos/1.jpg"]
    schemas.Comparison.model_validate(found)
    assert get(client, "/runs/compare", params={"a": "1", "b": "finches@1"}).status_code == 422
    assert get(client, "/runs/compare", params={"a": "1"}).status_code == 422


def test_another_owners_run_is_not_there(client: TestClient, settings: Settings, store: Database, one: RunRow) -> None:
    other = finished_run(store, History(version=2))  # the newest of that name
    give(store, one, "ann")
    give(store, other, "bob")
    ann = reader(settings, "ann")
    assert get(client, "/runs/finches", headers=ann).json()["run"] == one.id
    assert [row["run"] for row in get(client, "/runs", headers=ann).json()["items"]] == [one.id]
    parts = (
        "",
        "/recipe",
        "/epochs",
        "/evaluation",
        "/classes",
        "/confusion",
        "/calibration",
        "/mistakes",
        "/findings",
    )
    for part in parts:
        assert get(client, f"/runs/{other.id}{part}", headers=ann).status_code == 404
        assert get(client, f"/runs/{one.id}{part}", headers=ann).status_code == 200
        assert get(client, f"/runs/{one.id}{part}", headers={"Authorization": ""}).status_code == 401
    assert get(client, f"/jobs/{other.evaluation_job_id}/evaluation", headers=ann).status_code == 404
    assert get(client, "/runs/compare", params={"a": one.id, "b": other.id}, headers=ann).status_code == 404


def test_the_figures_of_a_finished_job_are_written_down(client: TestClient, store: Database, one: RunRow) -> None:
    job = evaluated(store, model_id(store), ("robin", "wren", "wren", "wren"))
    assert evaluation(store, job) is None
    answer = client.put(f"/api/v1/jobs/{job}/evaluation", json={"split": "val"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == get(client, f"/jobs/{job}/evaluation").json()
    kept = evaluation(store, job)
    assert kept is not None
    assert (kept.images, kept.accuracy, kept.split, kept.run_id, kept.report_path) == (4, 0.75, "val", None, None)
    assert kept.macro_f1 == pytest.approx(answer.json()["macro_f1"])
    assert client.put(f"/api/v1/jobs/{job}/evaluation").status_code == 200
    assert evaluation(store, job).split == "val"  # type: ignore[union-attr]  # it is there


def test_what_a_run_has_written_of_its_evaluation_stays(client: TestClient, store: Database, one: RunRow) -> None:
    assert client.put(f"/api/v1/jobs/{one.evaluation_job_id}/evaluation", json={"split": "test"}).status_code == 200
    kept = evaluation(store, one.evaluation_job_id or 0)
    assert kept is not None
    assert (kept.split, kept.run_id, kept.accuracy) == ("val", one.id, 0.75)


def test_figures_that_are_not_there_yet_are_not_written(
    client: TestClient, settings: Settings, store: Database, one: RunRow
) -> None:
    job = jobs_of.accept(store, NewJob(model_id(store)), [NewItem(b"a.jpg", label="robin")])
    where = f"/api/v1/jobs/{job}/evaluation"
    assert client.put(where).json()["type"] == "/errors#illegal-move"
    jobs_of.cancel(store, job)
    assert client.put(where).status_code == 404
    assert client.put(where, json={"split": "someday"}).json()["type"] == "/errors#invalid-recipe"
    assert client.put(where, headers=reader(settings, "")).status_code == 403
    other = {"Authorization": f"Bearer {new_token(settings.database, 'ann', ('submit',))}"}
    assert client.put(f"/api/v1/jobs/{one.evaluation_job_id}/evaluation", headers=other).status_code == 404


def model_id(store: Database) -> int:
    return register_model(store, ("finches", 1), "d" * 64, LABELS, "{}", "/models/finches")
