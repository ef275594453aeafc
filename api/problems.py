"""Every error that the API answers with: one closed table of kinds, one form (RFC 9457), one place that maps."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.problem_kinds import KINDS
from api.schemas.text import CONTRADICTION
from api.words import for_http
from models import errors as model_errors
from store import errors as store_errors
from store.waiting import QueueFull
from worker.sources import errors as source_errors

MEDIA_TYPE = "application/problem+json"
RETRY_S = 5  # what a client that was refused for now is told to wait
QUEUE_RETRY_S = 60  # as above, where images have to be classified first


class Problem(HTTPException):
    """An answer that is not what was asked for. `kind` is a slug of KINDS; extensions become members of the body.

    `retry_after` (seconds) also becomes the header. The detail is for a person: what was expected, what came.
    """

    def __init__(self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **extensions: Any) -> None:
        self.kind = kind
        self.extensions = extensions
        sent = dict(headers or {})
        if KINDS[kind].status == HTTPStatus.SERVICE_UNAVAILABLE:
            extensions.setdefault("retry_after", RETRY_S)
        if kind == "queue-full":
            extensions.setdefault("retry_after", QUEUE_RETRY_S)
        if "retry_after" in extensions:
            sent["Retry-After"] = str(extensions["retry_after"])
        if KINDS[kind].status == HTTPStatus.UNAUTHORIZED:
            sent.setdefault("WWW-Authenticate", 'Bearer realm="pixmill"')
        super().__init__(KINDS[kind].status, detail, sent)

    def body(self, request_id: str, instance: str) -> dict[str, Any]:
        """The members of RFC 9457, and ours."""
        return {
            "type": f"/errors#{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status_code,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            **self.extensions,
        }


# The first line whose class fits decides; what fits none is a bug of ours, which the last resort answers.
ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (store_errors.UnknownJob, "not-found"),
    (store_errors.UnknownRun, "not-found"),
    (store_errors.UnknownItem, "not-found"),
    (store_errors.KeyTaken, "key-reused"),
    (store_errors.IllegalMove, "illegal-move"),
    (store_errors.NothingToDo, "nothing-to-do"),
    (QueueFull, "queue-full"),
    (store_errors.DatabaseFull, "disk-full"),
    (store_errors.DatabaseUnavailable, "database-unavailable"),
    (store_errors.SchemaMismatch, "database-unavailable"),
    (PoolTimeout, "database-unavailable"),
    (source_errors.NoSuchPath, "no-such-path"),
    (source_errors.UnreadablePath, "unreadable-path"),
    (source_errors.SourceError, "bad-source"),
    (model_errors.UnknownModel, "unknown-model"),
    (model_errors.InvalidRecipe, "invalid-recipe"),
    (model_errors.LeakedImages, "invalid-recipe"),
    (model_errors.InvalidModel, "invalid-model"),
    (model_errors.ModelRefused, "invalid-model"),
    (model_errors.HubUnreachable, "unavailable"),
)


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error of the packages below means; None for a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem("disk-full", "No space is left on the server's disk.")
    for kind, slug in ERRORS:
        if isinstance(error, kind):
            return Problem(slug, for_http(str(error)), **_extensions(error))
    return None


def _extensions(error: Exception) -> dict[str, Any]:
    """What an error carries besides its words, for programs."""
    found: dict[str, Any] = {}
    for name in ("job_id", "state", "near"):
        if (value := getattr(error, name, None)) not in (None, "", ()):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def render(problem: Problem, request_id: str, instance: str) -> Response:
    """The response for a problem. ASCII only: what was received may hold what UTF-8 cannot."""
    text = json.dumps(problem.body(request_id, quote(instance[:512])), default=str)
    return Response(text, problem.status_code, problem.headers, MEDIA_TYPE)


_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "unsupported-media-type"}
MOST_ERRORS = 20  # of one body that are told
UNKNOWN = "nothing is called so here; the server's own page, at /, lists what there is"


def from_http(error: HTTPException) -> Problem:
    """What the framework refuses by itself, as a problem: an unknown address, another method, a broken body."""
    if isinstance(error, Problem):
        return error
    kind = _BY_STATUS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal")
    detail = {
        "not-found": "There is nothing at this address.",
        "method-not-allowed": "This address does not offer this method.",
    }.get(kind, str(error.detail))
    return Problem(kind, detail, headers=error.headers)


def from_validation(errors: Sequence[Mapping[str, Any]], content_type: str | None) -> Problem:
    """What a request's values have wrong, each with its place; what was sent is not repeated, it may be a secret."""
    found = [_error(error) for error in errors[:MOST_ERRORS]]
    if errors and errors[0]["type"] == "json_invalid":
        return Problem(
            "bad-request", f"The body is no JSON: {errors[0].get('ctx', {}).get('error', 'it ends too early')}."
        )
    if any(error["at"] == "body" for error in found) and not _is_json(content_type):
        got = "none" if content_type is None else ascii(content_type[:100])
        hint = " With curl: `--json` instead of `-d`." if "urlencoded" in got else ""
        return Problem("unsupported-media-type", f"Expected Content-Type: application/json, got {got}.{hint}")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    slug = "contradictory" if all(error["type"] == CONTRADICTION for error in found) else "invalid"
    return Problem(slug, f"{found[0]['at']}: {found[0]['message']}{more}.", errors=found)


def _error(error: Mapping[str, Any]) -> dict[str, str]:
    place = ".".join(str(part)[:64] for part in error["loc"])
    message = UNKNOWN if error["type"] == "extra_forbidden" else str(error["msg"]).removeprefix("Value error, ")
    return {"at": place, "message": message.rstrip("."), "type": error["type"]}


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """What `responses=` of a route needs for these slugs, so that OpenAPI lists them."""
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(KINDS[kind].status, []).append(kind)
    return {status: _entry(status, slugs) for status, slugs in sorted(by_status.items())}


def _entry(status: int, slugs: Sequence[str]) -> dict[str, Any]:
    titles = "; ".join(f"`{slug}`: {KINDS[slug].title}" for slug in slugs)
    return {
        "description": titles or HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
