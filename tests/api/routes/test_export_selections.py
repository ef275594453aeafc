"""What else is exported: results of several jobs, and the items of one, in three forms."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from io import BytesIO, StringIO
from typing import Any

import pytest

from api.client import AsyncClient, Client
from store.database import Database
from tests.mixed_results import mixed_job
from tests.serving import Served, threaded
from worker.settings import Settings


@pytest.fixture
def served(settings: Settings, store: Database) -> Iterator[Served]:
    with threaded(settings) as server:
        yield server


@pytest.fixture
def jobs(store: Database, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Four jobs of two owners and two models, more than one look at the jobs finds."""
    monkeypatch.setattr("store.across.JOBS", 2)
    made = [("anna", 1), ("ben", 1), ("anna", 2), ("anna", 1)]
    return [mixed_job(store, 40, owner=owner, version=version) for owner, version in made]


def listed(served: Served, path: str, asked: dict[str, str], headers: dict[str, str]) -> list[dict[str, Any]]:
    """Every row of a listing."""
    rows: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = served.client.get(f"{served.api}{path}", params={**asked, **cursor}, headers=headers).json()
        rows += page["items"]
        if page["next"] is None:
            return rows
        cursor = {"cursor": page["next"]}


@pytest.mark.parametrize("order", ["item", "least_sure"])
@pytest.mark.parametrize(
    "asked", [{"label": "wren"}, {"model": "birds@1"}, {"model": "birds", "status": "ok"}], ids=str
)
def test_results_of_several_jobs_are_those_of_the_listing(
    served: Served, jobs: list[int], asked: dict[str, str], order: str
) -> None:
    anna = {"Authorization": f"Bearer {served.token_for('anna', 'read')}"}
    for headers, mine in ((anna, [jobs[0], jobs[2], jobs[3]]), ({}, jobs)):
        wanted = listed(served, "/results", {**asked, "order": order}, headers)
        got = served.client.get(f"{served.api}/results.jsonl", params={**asked, "order": order}, headers=headers)
        assert [json.loads(line) for line in got.text.splitlines()] == wanted
        there = mine if asked.get("model") != "birds@1" else [job for job in mine if job != jobs[2]]
        assert list(dict.fromkeys(row["job_id"] for row in wanted)) == there[::-1]
        assert 'filename="results.jsonl"' in got.headers["content-disposition"]


def test_results_of_several_jobs_are_the_same_in_every_form(served: Served, jobs: list[int]) -> None:
    import pyarrow.parquet as pq

    url, asked = f"{served.api}/results", {"label": "wren"}
    lines = [json.loads(line) for line in served.client.get(f"{url}.jsonl", params=asked).text.splitlines()]
    table = pq.read_table(BytesIO(served.client.get(f"{url}.parquet", params=asked).content)).to_pylist()
    assert [{**row, "extra": dict(row["extra"])} for row in table] == lines
    rows = list(csv.DictReader(StringIO(served.client.get(f"{url}.csv", params=asked).text)))
    assert [(int(row["job_id"]), int(row["idx"])) for row in rows] == [(row["job_id"], row["idx"]) for row in lines]
    assert [row["label_2"] for row in rows] == ["emu"] * len(lines)
    assert {row["job_id"] for row in lines} == set(jobs)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_all_results_of_all_jobs_are_no_question(served: Served, form: str) -> None:
    refused = served.client.get(f"{served.api}/results.{form}")
    assert (refused.status_code, refused.json()["type"]) == (422, "/errors#too-broad")


@pytest.mark.parametrize("asked", [{}, {"pending": "true"}, {"path_prefix": "a"}, {"true_label": "robin"}], ids=str)
def test_items_are_those_of_the_listing_in_every_form(
    served: Served, store: Database, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr("store.item_query.PORTION", 7)
    job = mixed_job(store, 60, done=40)
    url, wanted = f"{served.api}/jobs/{job}/items", listed(served, f"/jobs/{job}/items", asked, {})
    assert wanted
    assert (len(wanted) == 60) is (asked == {})
    answer = served.client.get(f"{url}.jsonl", params=asked)
    assert [json.loads(line) for line in answer.text.splitlines()] == wanted
    table = pq.read_table(BytesIO(served.client.get(f"{url}.parquet", params=asked).content)).to_pylist()
    assert [{**row, "extra": dict(row["extra"])} for row in table] == wanted
    rows = list(csv.DictReader(StringIO(served.client.get(f"{url}.csv", params=asked).text)))
    assert [(int(row["idx"]), row["file_name"], row["status"]) for row in rows] == [
        (row["idx"], row["file_name"], row["status"]) for row in wanted
    ]
    assert [row["camera"] for row in rows] == [row["extra"].get("camera", "") for row in wanted]
    assert f'filename="job-{job}-items.jsonl"' in answer.headers["content-disposition"]


def test_another_owners_items_are_not_there(served: Served, jobs: list[int]) -> None:
    ben = {"Authorization": f"Bearer {served.token_for('ben', 'read')}"}
    assert served.client.get(f"{served.api}/jobs/{jobs[0]}/items.csv", headers=ben).status_code == 404
    assert served.client.get(f"{served.api}/jobs/{jobs[1]}/items.csv", headers=ben).status_code == 200


def test_the_client_goes_through_all_jobs(served: Served, jobs: list[int]) -> None:
    async def across() -> list[tuple[int, int]]:
        async with AsyncClient(served.url, served.token) as client:
            return [(row.job_id, row.idx) async for row in client.across(model="birds@1", wrong=False)]

    with Client(served.url, served.token) as client:
        found = [(row.job_id, row.idx) for row in client.across(model="birds@1", wrong=False)]
    assert found == asyncio.run(across())
    assert [job for job, _ in dict.fromkeys((job, 0) for job, _ in found)] == [jobs[3], jobs[1], jobs[0]]
