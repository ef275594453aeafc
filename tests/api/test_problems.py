"""Problems: one table, one form, and every error that can leave a package has its line."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from api.problem_kinds import KINDS
from api.problems import ERRORS, Problem, documented, from_validation, problem_of, render
from models import errors as model_errors
from store import errors as store_errors
from worker.sources import errors as source_errors

ROOT = Path(__file__).parents[2]
# Raised only where workers are, or caught where they are raised: they cannot leave a route.
INSIDE = {
    "StoreError", "LeaseLost", "IncompleteShard", "ModelError", "ImageError", "EngineError", "EngineOutOfMemory",
    "ScanLost",
}  # fmt: skip


def test_every_slug_that_the_code_names_is_in_the_table_and_every_one_is_named() -> None:
    named = set()
    for path in ROOT.glob("api/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Problem", "documented", "_refuse"):
                named |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    slugs = {name for name in named if isinstance(name, str) and re.fullmatch(r"[a-z]+(-[a-z]+)*", name)}
    assert len(slugs) > 10
    assert slugs <= set(KINDS), slugs - set(KINDS)


def test_every_error_of_the_packages_below_has_its_line() -> None:
    mapped = tuple(kind for kind, _ in ERRORS)
    for module in (store_errors, source_errors, model_errors):
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Exception) and name not in INSIDE:
                assert issubclass(value, mapped), f"{name} would be answered with 500: give it a line in ERRORS"


def test_the_narrower_error_comes_before_the_wider() -> None:
    kinds = [kind for kind, _ in ERRORS]
    for n, wide in enumerate(kinds):
        assert not [narrow for narrow in kinds[n + 1 :] if issubclass(narrow, wide)], f"{wide.__name__} hides a line"


def test_what_a_person_reads_is_complete() -> None:
    assert max(Counter(kind.title for kind in KINDS.values()).values()) == 1
    for slug, kind in KINDS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
        assert 400 <= kind.status < 600
        assert kind.title[0].isupper()
        assert not kind.title.endswith(".")
        assert kind.when.endswith(".")
        assert kind.advice.endswith(".")


def test_an_error_carries_what_programs_need() -> None:
    found = problem_of(model_errors.UnknownModel("brids", ["birds"]))
    assert found
    assert (found.kind, found.extensions["near"]) == ("unknown-model", ["birds"])
    assert problem_of(KeyError("x")) is None
    assert problem_of(PermissionError(13, "denied", "/inside")) is None


def test_a_problem_has_the_members_of_the_rfc() -> None:
    response = render(Problem("conflict", "It is there.", name="x"), "r1", "/a b/é")
    assert response.media_type == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "/errors#conflict",
        "title": KINDS["conflict"].title,
        "status": 409,
        "detail": "It is there.",
        "instance": "/a%20b/%C3%A9",
        "request_id": "r1",
        "name": "x",
    }


def test_what_cannot_be_utf_8_is_rendered_all_the_same() -> None:
    response = render(Problem("invalid", "got \ud800", path=b"\xff"), "r", "/")
    assert json.loads(bytes(response.body))["detail"] == "got \ud800"


def test_for_now_means_when_to_try_again() -> None:
    for slug, kind in KINDS.items():
        headers = Problem(slug, "x").headers or {}
        assert ("Retry-After" in headers) == (kind.status == 503 or slug == "queue-full"), slug
        assert ("WWW-Authenticate" in headers) == (kind.status == 401), slug
    assert (Problem("in-flight", "x", retry_after=2).headers or {})["Retry-After"] == "2"


def test_what_was_sent_is_not_repeated() -> None:
    errors = [
        {"type": "string_type", "loc": ("body", "secret", 3), "msg": "Input should be a string", "input": "hunter2"}
    ]
    problem = from_validation(errors * 50, "application/json")
    assert "hunter2" not in json.dumps(problem.body("r", "/"))
    assert problem.detail == "body.secret.3: Input should be a string (and 49 more)."
    assert len(problem.extensions["errors"]) == 20


@pytest.mark.parametrize("slugs", [("not-found",), ("conflict", "changed", "not-found")])
def test_a_route_documents_its_problems_by_status(slugs: tuple[str, ...]) -> None:
    entries = documented(*slugs)
    assert set(entries) == {KINDS[slug].status for slug in slugs}
    for slug in slugs:
        assert f"`{slug}`" in entries[KINDS[slug].status]["description"]


def test_a_name_that_is_not_known_is_told_without_the_frameworks_words() -> None:
    told = from_validation([{"type": "extra_forbidden", "loc": ("query", "labl"), "msg": "Extra inputs"}], None)
    assert str(told.detail).startswith("query.labl: nothing is called so here")


def test_json_that_curl_calls_a_form_is_told_how_to_be_sent() -> None:
    error = {"type": "model_attributes_type", "loc": ("body",), "msg": "Input should be a valid dictionary"}
    told = from_validation([error], "application/x-www-form-urlencoded")
    assert (told.kind, "`--json` instead of `-d`" in str(told.detail)) == ("unsupported-media-type", True)
