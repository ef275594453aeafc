"""POST /sql: for administrators, read-only, streamed when it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from api.routes import sql
from store.database import Database
from tests.api.conftest import AcceptJob
from tests.serving import api_client, new_token
from worker.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"


@pytest.fixture
def client(settings: Settings, store: Database) -> Iterator[TestClient]:
    with api_client(settings, []) as made:
        yield made


def ask(client: TestClient, query: object, **more: object) -> Any:
    return client.post("/api/v1/sql", json={"query": query, **more})


def test_the_answer_is_json_lines_the_names_first(client: TestClient, accept_job: AcceptJob) -> None:
    job = accept_job(3)
    answer = ask(client, "SELECT job_id, found, NULL AS absent FROM v_job_totals")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    head, *rows = map(json.loads, answer.text.splitlines())
    assert (head, rows) == ({"columns": ["job_id", "found", "absent"]}, [[job, 3, None]])


def test_only_an_administrator_may_ask(client: TestClient, settings: Settings) -> None:
    for scope, status in (("read", 403), ("submit", 403), ("admin", 200)):
        token = new_token(settings.database, "ann", (scope,))
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/api/v1/sql", json={"query": "SELECT 1"}, headers=headers).status_code == status
    assert client.post("/api/v1/sql", json={"query": "SELECT 1"}, headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM jobs", "SELECT 1; DELETE FROM jobs", "ATTACH 'x' AS y", "PRAGMA query_only = OFF", "VACUUM INTO 'x'",
     "SELECT load_extension('x')", "SELECT hash FROM tokens", "SELEC 1", "SELECT CAST(x'ff' AS TEXT)"],
)  # fmt: skip
def test_what_is_refused_is_a_problem_that_says_why(client: TestClient, accept_job: AcceptJob, query: str) -> None:
    accept_job()
    answer = ask(client, query)
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#query-refused")
    assert len(ask(client, "SELECT id FROM jobs").text.splitlines()) == 2


def test_an_endless_question_is_a_problem_after_its_time(client: TestClient) -> None:
    answer = ask(client, ENDLESS, timeout_s=0.3)
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#query-too-slow")


@pytest.mark.parametrize(
    "body",
    [{}, {"query": ""}, {"query": 1}, {"query": "SELECT 1", "more": 1}, {"query": "SELECT 1", "timeout_s": 0},
     {"query": "SELECT 1", "timeout_s": 601}, {"query": "SELECT 1", "timeout_s": "30"}, {"query": "x" * 100_001},
     {"query": "SELECT 'a\0'"}, {"query": "SELECT '\ud800'"}, [], None],
)  # fmt: skip
def test_a_body_that_is_no_question_is_refused(client: TestClient, body: object) -> None:
    sent = json.dumps(body)  # a surrogate as an escape, as a client could send it
    answer = client.post("/api/v1/sql", content=sent, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_an_answer_without_end_is_refused_before_it_fills_the_disk(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "MOST", 1 << 20)
    answer = ask(client, ENDLESS.replace("count(*)", "n"))
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#query-refused")


def test_more_questions_than_may_run_at_once_are_told_to_come_back(client: TestClient) -> None:
    gate = client.app.state.context.part(sql.Questions).gate  # type: ignore[attr-defined]  # FastAPI's
    gate._wait_s = 0.05
    with ExitStack() as stack:
        for _ in range(sql.AT_ONCE):
            stack.enter_context(gate.turn())
        answer = ask(client, "SELECT 1")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert ask(client, "SELECT 1").status_code == 200
