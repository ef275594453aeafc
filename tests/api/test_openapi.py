"""The description of the API: it is kept, it is whole, and it changes only on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from api import openapi
from api.openapi import METHODS, SNAPSHOT, main, snapshot
from api.problems import MEDIA_TYPE, Problem


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(snapshot())
    return found


def test_the_kept_description_is_what_the_api_says_of_itself() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == snapshot(), (
        "a planned change? `./do docs` writes docs/openapi.json again"
    )


def test_a_difference_is_found_and_written_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi, "SNAPSHOT", tmp_path / "openapi.json")
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    changed = (tmp_path / "openapi.json").read_text().replace("whoami", "whoareyou")
    (tmp_path / "openapi.json").write_text(changed)
    assert main(["--check"]) == 1


def test_nothing_of_this_machine_is_in_it() -> None:
    text = snapshot()
    assert str(Path.home()) not in text
    assert "/nowhere" not in text


def test_every_error_of_every_operation_is_a_problem(described: dict[str, Any]) -> None:
    for path, operations in described["paths"].items():
        for method in set(METHODS) & set(operations):
            operation = operations[method]
            for status, answer in operation["responses"].items():
                if status[0] in "45" and path != "/readyz" and status != "416":  # which has no body
                    assert MEDIA_TYPE in answer["content"], (method, path, status)
            always = {"400", "403", "421", "500"}
            always |= {"401", "429", "503"} if operation.get("security") else set()
            always |= {"413", "415", "422"} if "requestBody" in operation else set()
            assert always <= set(operation["responses"]), (method, path)


def test_the_frameworks_own_errors_are_not_in_it(described: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in json.dumps(described)


def test_every_operation_of_the_api_says_which_scope_it_needs(described: dict[str, Any]) -> None:
    for path, operations in described["paths"].items():
        for method in set(METHODS) & set(operations):
            if path.startswith("/api/"):
                (need,) = operations[method]["security"]
                assert need["token"] in (["read"], ["submit"], ["admin"]), (method, path)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    names = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}
    assert set(references(described)) <= names


def test_a_problem_fits_its_schema(described: dict[str, Any]) -> None:
    schema = described["components"]["schemas"]["Problem"]
    jsonschema.validate(Problem("rate-limited", "x", retry_after=3).body("r", "/"), schema)
