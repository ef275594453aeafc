"""Tokens, scopes and owners: who may do what, and what others' things look like."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from api import known
from api.access import Caller, Limits, caller_of, own_job
from api.app import PREFIX, make_app
from api.context import Context
from api.problems import Problem
from store import tokens
from store.database import Database
from tests.api.asgi import HOST, Answer, ask
from worker.settings import Settings

AcceptJob = Callable[..., int]
WHOAMI = f"{PREFIX}/whoami"
ADMINS = f"{PREFIX}/tokens"


@pytest.fixture
def app(settings: Settings, store: Database) -> Iterator[FastAPI]:
    made = make_app(settings, roots=())
    yield made
    made.state.context.close()


def secret(store: Database, scope: str = "read", owner: str = "ann", expires_at: float | None = None) -> str:
    return tokens.create(store, name="n", owner=owner, scopes=(scope,), expires_at=expires_at)[1]


def with_token(app: FastAPI, path: str, token: str | bytes, scheme: bytes = b"Bearer") -> Answer:
    sent = token.encode() if isinstance(token, str) else token
    return ask(app, "GET", path, [HOST, (b"authorization", scheme + b" " + sent)])


def test_a_token_says_who_calls(app: FastAPI, store: Database) -> None:
    answer = with_token(app, WHOAMI, secret(store, "submit"))
    assert answer.status == 200
    assert (answer.json["owner"], answer.json["scopes"]) == ("ann", ["read", "submit"])
    assert with_token(app, WHOAMI, secret(store), b"bearer").status == 200  # the scheme's case is free


def test_no_token_is_refused_with_a_challenge(app: FastAPI) -> None:
    answer = ask(app, "GET", WHOAMI)
    assert (answer.status, answer.kind) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", [b"Basic", b"Token", b"bearer:", b""])
def test_another_scheme_is_refused(app: FastAPI, store: Database, scheme: bytes) -> None:
    assert with_token(app, WHOAMI, secret(store), scheme).status == 401


def test_a_token_in_the_address_is_not_looked_at(app: FastAPI, store: Database) -> None:
    assert ask(app, "GET", f"{WHOAMI}?token={secret(store)}&access_token={secret(store)}").status == 401


@pytest.mark.parametrize(
    "odd", [b"", b"x", b"pxm_", b"pxm_aaaaaaaa_" + b"a" * 43, b"' OR 1=1 --", b"\xff\xfe", b"x" * 9000]
)
def test_a_token_that_is_none_is_refused(app: FastAPI, odd: bytes) -> None:
    answer = with_token(app, WHOAMI, odd)
    assert (answer.status, answer.kind) == (401, "unauthorized")


def test_a_token_that_is_almost_right_is_refused(app: FastAPI, store: Database) -> None:
    good = secret(store)
    for wrong in (good[:-1] + ("a" if good[-1] != "a" else "b"), good + "a", good[:-1], good.upper(), good[4:]):
        assert with_token(app, WHOAMI, wrong).status == 401, wrong


def test_an_expired_and_a_revoked_token_say_so(app: FastAPI, store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "KNOWN_S", 0.0)  # the token is revoked in another process, as it were
    expired = with_token(app, WHOAMI, secret(store, expires_at=time.time() - 1))
    assert (expired.status, expired.kind) == (401, "token-expired")
    row, taken = tokens.create(store, name="n", owner="ann", scopes=("admin",))
    assert with_token(app, WHOAMI, taken).status == 200
    tokens.revoke(store, row.id)
    revoked = with_token(app, WHOAMI, taken)
    assert (revoked.status, revoked.kind) == (401, "token-revoked")


@pytest.mark.parametrize("scope", ["read", "submit"])
def test_a_wrong_scope_is_refused_and_the_needed_one_named(app: FastAPI, store: Database, scope: str) -> None:
    answer = with_token(app, ADMINS, secret(store, scope))
    assert (answer.status, answer.kind, answer.json["scope"]) == (403, "forbidden", "admin")


def test_admin_implies_submit_and_read(app: FastAPI, store: Database) -> None:
    answer = with_token(app, WHOAMI, secret(store, "admin"))
    assert answer.json["scopes"] == ["read", "submit", "admin"]
    assert with_token(app, ADMINS, secret(store, "admin")).status == 200


def test_every_route_of_the_api_depends_on_the_caller(app: FastAPI) -> None:
    def functions(dependant: object) -> Iterator[object]:
        yield getattr(dependant, "call", None)
        for below in getattr(dependant, "dependencies", []):
            yield from functions(below)

    found = 0
    for route in iter_route_contexts(app.routes):
        if str(getattr(route, "path", "")).startswith(PREFIX):
            found += 1
            assert caller_of in set(functions(route.dependant)), route.path
    assert found >= 3


def test_a_change_of_spelling_in_the_path_opens_nothing(app: FastAPI) -> None:
    for path in (
        f"{PREFIX}/tokens/",
        "/API/V1/tokens",
        "//api/v1/tokens",
        "/livez/../api/v1/tokens",
        "/api/v1/./tokens",
    ):
        assert ask(app, "GET", path).status in (401, 404), path


def test_anothers_job_looks_exactly_like_one_that_is_not_there(
    settings: Settings, store: Database, accept_job: AcceptJob
) -> None:
    here = Context(settings, ())
    job = accept_job(owner="bob")
    ann, bob, admin = (Caller(name, frozenset(scopes), "t", Limits()) for name, scopes in _callers())
    assert own_job(here, bob, job).id == own_job(here, admin, job).id == job
    refusals = []
    for wanted in (job, 999):
        with pytest.raises(Problem) as caught:
            own_job(here, ann, wanted)
        refusals.append(re.sub(rf"\b{wanted}\b", "N", str(caught.value.body("r", "/x"))))
    assert refusals[0] == refusals[1]
    here.close()


def _callers() -> Iterator[tuple[str, list[str]]]:
    yield "ann", ["read", "submit"]
    yield "bob", ["read"]
    yield "root", ["read", "submit", "admin"]


def test_a_token_that_asks_too_often_is_told_to_wait(settings: Settings, store: Database) -> None:
    app = make_app(settings, roots=())
    bounds = tokens.TokenLimits(requests_per_minute=3)
    _, slow = tokens.create(store, name="n", owner="ann", scopes=("read",), limits=bounds)
    left = [with_token(app, WHOAMI, slow).headers["ratelimit"] for _ in range(3)]
    assert [line.partition(";t=")[0] for line in left] == [f'"requests";r={n}' for n in (2, 1, 0)]
    refused = with_token(app, WHOAMI, slow)
    assert (refused.status, refused.kind) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 21
    assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=60'
    assert with_token(app, WHOAMI, secret(store)).status == 200  # others are not concerned


def test_the_last_use_of_a_token_is_written_later(settings: Settings, store: Database) -> None:
    from api.touches import Touches

    app = make_app(settings, roots=())
    row, token = tokens.create(store, name="n", owner="ann", scopes=("read",))
    with_token(app, WHOAMI, token)
    found = tokens.get(store, row.id)
    assert found
    assert found.last_used_at is None
    app.state.context.part(Touches).flush()
    found = tokens.get(store, row.id)
    assert found
    assert found.last_used_at is not None
    assert abs(found.last_used_at - time.time()) < 60


def test_a_database_that_is_away_is_a_503_not_an_open_door(tmp_path: Path) -> None:
    (tmp_path / "pixmill.db").write_bytes(b"this is no database, and never was one" * 100)
    app = make_app(Settings(home=tmp_path), roots=())
    answer = with_token(app, WHOAMI, "pxm_aaaaaaaa_" + "a" * 43)
    assert (answer.status, answer.kind) == (503, "database-unavailable")
