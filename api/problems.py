"""Every error that the API answers with: one closed table of kinds, one form (RFC 9457), one place that maps."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.schemas.text import CONTRADICTION
from api.words import for_http
from models import errors as model_errors
from store import errors as store_errors
from store.waiting import QueueFull
from worker.sources import errors as source_errors

MEDIA_TYPE = "application/problem+json"
RETRY_S = 5  # what a client that was refused for now is told to wait
QUEUE_RETRY_S = 60  # as above, where images have to be classified first


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of problem: its HTTP status, its title, and what a person can do."""

    status: int
    title: str
    advice: str


# A line per slug, by status. A slug is a promise: it is never given another meaning.
KINDS: dict[str, Kind] = {
    "bad-request": Kind(400, "The request is malformed", "Send well-formed HTTP: one Host, valid JSON, clean headers."),
    "unauthorized": Kind(401, "A token is needed", "Send `Authorization: Bearer …`; `pixmill token create` makes one."),
    "token-expired": Kind(401, "The token has expired", "Make a new one with `pixmill token create`."),
    "token-revoked": Kind(401, "The token was revoked", "Ask an administrator for another one."),
    "forbidden": Kind(403, "The token may not do this", "Use a token that has the scope which the problem names."),
    "cross-site": Kind(
        403, "Requests from other sites are refused", "Call the API from a program, or from its own origin."
    ),
    "root-not-allowed": Kind(
        403,
        "The path is outside the allowed roots",
        "Name a path below an allowed root; `--root` or PIXMILL_ROOTS add one.",
    ),
    "not-found": Kind(
        404, "There is nothing here", "Check the address and the id; what belongs to others is not shown."
    ),
    "too-broad": Kind(422, "The question is about everything", "Name a model or a label, or ask one job."),
    "bad-name": Kind(
        422, "This is no name for an uploaded file", "Use a relative name of parts up to 255 bytes, like cats/1.jpg."
    ),
    "file-missing": Kind(404, "The file is not there any more", "Bring the file back, or submit the folder again."),
    "method-not-allowed": Kind(405, "This method is not offered here", "Use one of the methods that `Allow` lists."),
    "illegal-move": Kind(409, "The state does not allow this", "Look at the job's state first; it may have ended."),
    "nothing-to-do": Kind(409, "There is nothing to do", "Nothing failed or is left; a retry would run nothing."),
    "in-flight": Kind(
        409, "The same request is still being answered", "Wait as `Retry-After` says, then send it again."
    ),
    "changed": Kind(
        409, "The file changed since it was read", "Submit the folder again to classify what is there now."
    ),
    "conflict": Kind(
        409, "It is in use or already there", "The detail says by what; free it first or choose another name."
    ),
    "too-large": Kind(
        413, "The body is too large", "Send less at once; `max_body_mb` and `max_upload_mb` are the limits."
    ),
    "unsupported-media-type": Kind(
        415,
        "The body's type is not understood",
        "Send JSON as `Content-Type: application/json`, and files as the body itself, not in a form.",
    ),
    "wrong-host": Kind(
        421,
        "This host name is not served here",
        "Use the address that `pixmill api` printed; PIXMILL_ALLOWED_HOSTS adds names.",
    ),
    "invalid": Kind(422, "The request cannot be accepted as it is", "Correct what `errors` or `detail` names."),
    "contradictory": Kind(
        422, "What was asked does not go together", "Each part is fine by itself; the detail says which to leave away."
    ),
    "bad-cursor": Kind(
        422,
        "The cursor does not belong to this query",
        "Start from the first page, or keep filter and order as they were.",
    ),
    "no-such-path": Kind(422, "Nothing is at this path", "Check the spelling, and that the server sees this disk."),
    "unreadable-path": Kind(422, "The path cannot be read", "Give the server's user the right to read it."),
    "bad-source": Kind(
        422, "The images cannot be taken from there", "The detail says what was found instead of images."
    ),
    "unknown-model": Kind(
        422, "There is no such model", "`GET /api/v1/models` lists the models; the detail names near ones."
    ),
    "invalid-model": Kind(422, "The model cannot be used", "The detail says what is wrong with it."),
    "invalid-recipe": Kind(422, "The training cannot be as it was asked for", "Correct the recipe as the detail says."),
    "query-refused": Kind(
        422,
        "The question was refused",
        "Ask one SELECT over Pixmill's tables and views; the detail says what was wrong.",
    ),
    "query-too-slow": Kind(422, "The question takes too long", "Ask for less, or allow more with `timeout_s`."),
    "not-rendered": Kind(
        422, "No small copy can be made of it", "Ask for the original; the detail says what stood in the way."
    ),
    "key-reused": Kind(422, "The Idempotency-Key belongs to another request", "Use a new key for a new request."),
    "webhook-refused": Kind(
        422,
        "The webhook's URL may not be called",
        "Name an https URL on the public internet; PIXMILL_ALLOW_PRIVATE_WEBHOOKS allows others.",
    ),
    "rate-limited": Kind(429, "Too many requests", "Wait as `Retry-After` says; `RateLimit` tells what is left."),
    "upload-full": Kind(
        429,
        "Too many uploaded bytes are kept",
        "Delete uploads, let jobs that read them end, or ask for a higher limit.",
    ),
    "queue-full": Kind(429, "Too many images are waiting", "Let jobs finish, cancel some, or ask for a higher limit."),
    "internal": Kind(
        500, "Something went wrong inside", "Report it with the `request_id`; the server's log has the rest."
    ),
    "not-installed": Kind(
        501, "This server lacks a package for it", "Install what the detail names, or use a server that has it."
    ),
    "database-unavailable": Kind(
        503, "The database cannot be used now", "Try again as `Retry-After` says; `/readyz?verbose` tells more."
    ),
    "unavailable": Kind(
        503, "A part that is needed does not answer", "Try again as `Retry-After` says; `/readyz?verbose` tells more."
    ),
    "too-many-streams": Kind(
        503, "Too many listeners at once", "Close some event streams, or ask for the state instead."
    ),
    "too-many-exports": Kind(
        503, "Too many exports at once", "Try again as `Retry-After` says; pages are always there."
    ),
    "disk-full": Kind(507, "No space is left", "Free some on the server's disk, then try again; nothing was lost."),
}


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
