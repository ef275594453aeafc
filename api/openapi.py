"""The description of the API: what every operation shares is said here once; a copy is kept in docs/openapi.json.

`python -m api.openapi` writes that copy, with `--check` it only compares.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from api.problem_kinds import KINDS
from api.problems import documented

SNAPSHOT = Path(__file__).parents[1] / "docs" / "openapi.json"
METHODS = ("get", "put", "post", "delete", "patch")
EVERYWHERE = ("bad-request", "cross-site", "wrong-host", "internal")  # the guards, before every operation
WITH_TOKEN = ("unauthorized", "token-expired", "token-revoked", "forbidden", "rate-limited", "database-unavailable")
OPTIONAL = ("metrics",)  # needs a token only from elsewhere
WITH_BODY = ("too-large", "unsupported-media-type")
DESCRIPTION = """Submit folders of pictures, follow the work, query the rows they became.

Send `Authorization: Bearer TOKEN`. Every error is a problem (RFC 9457) whose `type` is explained at `/errors`.
Listings are pages: `{"items": […], "next": cursor}`, and the same as a `Link` header; there is more while `next` is
there, even where a page is empty. Times are RFC 3339 in UTC."""
PROBLEM = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457). Some types add members of their own.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "enum": [f"/errors#{kind}" for kind in KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For a person: what was expected, what came, what to do."},
        "instance": {"type": "string"},
        "request_id": {"type": "string", "description": "Also in the header X-Request-ID and in the server's log."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["at", "message", "type"],
                "properties": {name: {"type": "string"} for name in ("at", "message", "type")},
            },
        },
        "retry_after": {"type": "integer", "description": "Seconds to wait; also the header Retry-After."},
    },
}


def finished(schema: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's description, with the problems that every operation can answer with."""
    schema["info"]["description"] = DESCRIPTION
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    for operations in schema["paths"].values():
        for method in METHODS:
            if method in operations:
                _complete(operations[method])
    return schema


def _complete(operation: dict[str, Any]) -> None:
    """Add the common answers to one operation; what the route itself says of a status stays, our words are added."""
    kinds = [*EVERYWHERE]
    if "security" in operation:
        kinds += WITH_TOKEN
        if operation["operationId"] in OPTIONAL:
            operation["security"].append({})
    if "requestBody" in operation:
        kinds += WITH_BODY
    responses: dict[str, Any] = operation["responses"]
    if _is_frameworks(responses.get("422", {})):
        del responses["422"]
    if "422" not in responses and ("parameters" in operation or "requestBody" in operation):
        kinds.append("invalid")
    for status, entry in documented(*kinds).items():
        known = responses.setdefault(str(status), entry)
        if known is not entry:
            known["description"] = f"{known['description']}; {entry['description']}"
            known.setdefault("content", {}).update(entry["content"])
    operation["responses"] = dict(sorted(responses.items()))


def _is_frameworks(response: dict[str, Any]) -> bool:
    return "HTTPValidationError" in json.dumps(response)


def snapshot() -> str:
    """The description as it is kept in docs/openapi.json: of every installation the same."""
    from worker.settings import Settings

    make_app = import_module("api.app").make_app  # by name: the app imports this module
    schema: dict[str, Any] = make_app(
        Settings(home=Path("/nowhere"), database_url=None, broker_url=None), roots=()
    ).openapi()
    schema["info"]["version"] = "1"  # the API's, which is in its path; the program's changes with every release
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the snapshot, or with --check compare it; returns the exit code."""
    made = snapshot()
    kept = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.exists() else ""
    if made == kept:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/openapi.json is not what the API says of itself; `./do docs` writes it again.\n")
        return 1
    SNAPSHOT.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
