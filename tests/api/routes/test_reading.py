"""Reading over HTTP: pages with cursors and Links, facets, items, corrections; nobody sees another's rows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.schemas.jobs import JobDetailOut, JobPage, SummaryOut
from api.schemas.results import CorrectionList, FacetsOut, ItemDetailOut, ItemPage, Results
from store.database import Database
from store.results import stream
from tests.mixed_results import FILTERS, expected, mixed_job
from tests.serving import api_client, new_token
from worker.settings import Settings


@pytest.fixture
def client(settings: Settings, store: Database) -> Iterator[TestClient]:
    with api_client(settings) as made:
        yield made


@pytest.fixture
def job(store: Database) -> int:
    return mixed_job(store, owner="anna")


def walk(client: TestClient, path: str, **asked: Any) -> list[dict[str, Any]]:
    """All rows of a listing, by its Links."""
    found: list[dict[str, Any]] = []
    answer = client.get(f"/api/v1{path}", params=asked)
    while True:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += body["items"]
        assert ("link" in answer.headers) == (body["next"] is not None)
        if body["next"] is None:
            return found
        link = answer.headers["link"]
        assert link.endswith('>; rel="next"')
        answer = client.get(link[1 : link.index(">")])


def as_query(name: str) -> dict[str, Any]:
    chosen = FILTERS[name]
    asked = {field: getattr(chosen, field) for field in chosen.__slots__}
    return {
        field: str(value).lower() if isinstance(value, bool) else value
        for field, value in asked.items()
        if value is not None
    }


def test_every_filter_reaches_the_rows_by_links(client: TestClient, store: Database, job: int) -> None:
    rows = list(stream(store, job))
    for name, chosen in FILTERS.items():
        for order in ("item", "most_sure", "newest"):
            found = walk(client, f"/jobs/{job}/results", limit=11, order=order, **as_query(name))
            assert [row["idx"] for row in found] == expected(rows, chosen, order), (name, order)


def test_answers_are_as_the_description_says(client: TestClient, job: int) -> None:
    for path, model in (
        ("jobs", JobPage),
        (f"jobs/{job}", JobDetailOut),
        (f"jobs/{job}/summary", SummaryOut),
        (f"jobs/{job}/results", Results),
        (f"jobs/{job}/facets", FacetsOut),
        (f"jobs/{job}/facets?label=wren", FacetsOut),
        (f"jobs/{job}/items", ItemPage),
        (f"jobs/{job}/items/3", ItemDetailOut),
        (f"jobs/{job}/items/3/labels", CorrectionList),
        ("results?label=wren", Results),
    ):
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, (path, answer.text)
        model.model_validate(answer.json())


@pytest.mark.parametrize(
    "asked",
    [
        "min_score=2", "min_score=nan", "status=maybe", "limit=0", "limit=1001", "limit=-1", "wrong=perhaps",
        "colour=red", "order=random", "label=%00", "cursor=%F0%9F%90%A6", "cursor=", "cursor=bm90IGpzb24",
        "path_prefix=", "limit=1e3",
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(client: TestClient, job: int, asked: str) -> None:
    answer = client.get(f"/api/v1/jobs/{job}/results?{asked}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_cursor_belongs_to_its_question(client: TestClient, store: Database, job: int) -> None:
    other = mixed_job(store, 30, owner="anna")
    cursor = client.get(f"/api/v1/jobs/{job}/results?limit=5").json()["next"]
    for path in (
        f"jobs/{job}/results?label=wren&cursor={cursor}",
        f"jobs/{job}/results?order=newest&cursor={cursor}",
        f"jobs/{other}/results?cursor={cursor}",
        f"jobs/{job}/items?cursor={cursor}",
        f"jobs?cursor={cursor}",
    ):
        answer = client.get(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()["type"]) == (422, "/errors#bad-cursor"), path
    assert client.get(f"/api/v1/jobs/{job}/results?limit=7&cursor={cursor}").json()["items"][0]["idx"] == 5


@pytest.mark.parametrize("key", [["x"], [True], [10**30], [float("nan")], [{}], [], [1, 2], ["\ud800"], [None]])
def test_a_forged_cursor_reaches_no_query(client: TestClient, job: int, key: list[Any]) -> None:
    cursor = client.get(f"/api/v1/jobs/{job}/results?limit=5").json()["next"]
    mark = json.loads(base64.urlsafe_b64decode(cursor + "=="))[0]
    forged = base64.urlsafe_b64encode(json.dumps([mark, *key]).encode()).decode().rstrip("=")
    assert client.get(f"/api/v1/jobs/{job}/results?limit=5&cursor={forged}").status_code == 422


def test_what_the_client_has_already_is_not_sent_again(client: TestClient, store: Database, job: int) -> None:
    first = client.get(f"/api/v1/jobs/{job}/results?limit=5")
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    again = client.get(f"/api/v1/jobs/{job}/results?limit=5", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["link"]) == (304, b"", first.headers["link"])
    client.put(f"/api/v1/jobs/{job}/items/1/label", json={"label": "emu"})
    assert client.get(f"/api/v1/jobs/{job}/results?limit=5", headers={"If-None-Match": tag}).status_code == 200


def test_jobs_are_listed_the_newest_first_under_a_filter(client: TestClient, store: Database) -> None:
    made = [mixed_job(store, 8, owner=owner) for owner in ("anna", "ben", "anna")]
    assert [row["id"] for row in walk(client, "/jobs", limit=1)] == made[::-1]
    assert [row["id"] for row in walk(client, "/jobs", owner="ben")] == [made[1]]
    assert [row["id"] for row in walk(client, "/jobs", model="birds@1", kind="classify")] == made[::-1]
    assert walk(client, "/jobs", until="2020-01-01T00:00:00Z") == []
    assert len(walk(client, "/jobs", since="2020-01-01T00:00:00+02:00", state="done_with_errors")) <= 3
    assert client.get("/api/v1/jobs?since=1700000000").status_code == 422


def test_a_job_tells_how_far_it_is(client: TestClient, store: Database) -> None:
    job = mixed_job(store, 48, done=20)
    found = client.get(f"/api/v1/jobs/{job}").json()
    assert (found["found"], found["classified"] + found["failed"], found["pending"]) == (48, 20, 28)
    assert found["run"] is None


def test_a_label_of_a_person_is_kept_with_author_and_time(client: TestClient, job: int) -> None:
    path = f"/api/v1/jobs/{job}/items/1"
    assert client.put(f"{path}/label", json={"label": "emu"}).json()["label"] == "emu"
    assert client.get(path).json()["correction"] == "emu"
    assert client.get(path).json()["result"]["correction"] == "emu"
    assert next(row["idx"] for row in walk(client, f"/jobs/{job}/results", corrected="true")) == 1
    assert client.delete(f"{path}/label").status_code == 204
    assert client.delete(f"{path}/label").status_code == 204
    said = client.get(f"{path}/labels").json()["items"]
    assert [(row["label"], bool(row["author"])) for row in said] == [("emu", True), (None, True)]
    assert client.get(path).json()["correction"] is None
    assert client.put(f"/api/v1/jobs/{job}/items/9999/label", json={"label": "emu"}).status_code == 404
    for body in ({}, {"label": ""}, {"label": "x" * 300}, {"label": "a\0b"}, {"label": "emu", "by": "me"}):
        assert client.put(f"{path}/label", json=body).status_code == 422, body


def test_what_was_said_of_an_item_comes_in_pages(client: TestClient, job: int) -> None:
    path = f"/api/v1/jobs/{job}/items/2"
    for name in ("emu", "owl", "owl", "tit", "auk"):
        client.put(f"{path}/label", json={"label": name})
    pages = [client.get(f"{path}/labels", params={"limit": 2})]
    while (cursor := pages[-1].json()["next"]) is not None:
        pages.append(client.get(f"{path}/labels", params={"limit": 2, "cursor": cursor}))
    assert [[row["label"] for row in page.json()["items"]] for page in pages] == [
        ["emu", "owl"],
        ["owl", "tit"],
        ["auk"],
    ]
    assert 'rel="next"' in pages[0].headers["link"]
    elsewhere = client.get(f"/api/v1/jobs/{job}/items/3/labels", params={"cursor": pages[0].json()["next"]})
    assert elsewhere.json()["type"] == "/errors#bad-cursor"
    assert client.delete(f"{path}/label").status_code == 204
    assert client.get(path).json()["correction"] is None


def test_another_owners_rows_are_not_there(client: TestClient, settings: Settings, store: Database, job: int) -> None:
    mine = mixed_job(store, 16, owner="ben")
    ben = {"Authorization": f"Bearer {new_token(settings.database, 'ben', ('submit',))}"}
    for path in ("", "/summary", "/results", "/results.csv", "/facets", "/items", "/items/1", "/items/1/labels"):
        hidden, missing = (client.get(f"/api/v1/jobs/{n}{path}", headers=ben) for n in (job, 9999))
        assert (hidden.status_code, missing.status_code) == (404, 404), path
        assert hidden.json()["title"] == missing.json()["title"]
    assert client.put(f"/api/v1/jobs/{job}/items/1/label", json={"label": "x"}, headers=ben).status_code == 404
    assert client.delete(f"/api/v1/jobs/{job}/items/1/label", headers=ben).status_code == 404
    for path in ("jobs", "jobs?owner=ben"):
        assert [row["id"] for row in client.get(f"/api/v1/{path}", headers=ben).json()["items"]] == [mine]
    assert client.get("/api/v1/jobs?owner=anna", headers=ben).json()["items"] == []
    rows = client.get("/api/v1/results?model=birds&limit=1000", headers=ben).json()["items"]
    assert {row["job_id"] for row in rows} == {mine}


def test_a_reader_cannot_correct(client: TestClient, settings: Settings, job: int) -> None:
    reader = {"Authorization": f"Bearer {new_token(settings.database, 'anna', ('read',))}"}
    assert client.get(f"/api/v1/jobs/{job}/items/1", headers=reader).status_code == 200
    answer = client.put(f"/api/v1/jobs/{job}/items/1/label", json={"label": "x"}, headers=reader)
    assert answer.status_code == 403


def test_results_across_jobs_want_a_model_or_a_label(client: TestClient, store: Database, job: int) -> None:
    other = mixed_job(store, 16, owner="ben")
    assert client.get("/api/v1/results").status_code == 422
    rows = walk(client, "/results", model="birds@1", limit=7)
    assert [(row["job_id"], row["idx"]) for row in rows] == [
        *((other, n) for n in range(16)),
        *((job, n) for n in range(120)),
    ]
