"""What can go wrong between a program and a Pixmill server.

ClientError
├── Unreachable           no server answers at this address, or it went away in the middle
├── NotReadable           a file that was to be sent cannot be read here
├── BrokenAnswer          an answer ended before it was whole, or is none of Pixmill's
└── ApiError              the server refused; carries its problem (docs/errors.md)
    ├── NotAllowed        401, 403: no token, a wrong one, or one without the scope
    ├── NotFound          404, and what a request names that is not there: a model, a path
    ├── Conflict          409: the state does not allow it
    ├── Invalid           any other 4xx: the request is wrong
    ├── TooMany           429: a limit of the token
    └── ServerError       5xx
        └── Unavailable   503, 507: not now
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Root of every error that this package raises on purpose."""


class NotReadable(ClientError):
    """A file that was to be sent cannot be read here."""


class Unreachable(ClientError):
    """No server answers."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(
            f"The server {server} cannot be reached: {reason}. Is it running (`pixmill up`), and is the address right?"
        )
        self.server = server


class BrokenAnswer(ClientError):
    """What came is not a whole answer of a Pixmill server."""


class ApiError(ClientError):
    """The server's problem. `kind` is its slug in docs/errors.md; `problem` the whole object."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.kind = str(problem.get("type", "")).rpartition("#")[2]
        self.request_id = problem.get("request_id")
        self.retry_after: float | None = problem.get("retry_after")
        super().__init__(self._words())

    def _words(self) -> str:
        title = self.problem.get("title") or f"The server answered with {self.status}"
        text = str(self.problem.get("detail") or f"{title}.")
        return f"{text} (request {self.request_id})" if self.status >= 500 and self.request_id else text


class NotAllowed(ApiError):
    """The token is missing, wrong, over, or lacks the scope; or the path is outside the server's roots."""


class NotFound(ApiError):
    """There is no such thing, or it is another owner's."""


class Conflict(ApiError):
    """The state of the thing does not allow it."""


class Invalid(ApiError):
    """The request is wrong."""


class TooMany(ApiError):
    """A limit of the token is reached."""


class ServerError(ApiError):
    """The server failed, or lacks what is needed."""


class Unavailable(ServerError):
    """The server, its database or its disk cannot serve this now."""


_BY_KIND: Mapping[str, type[ApiError]] = {"unknown-model": NotFound, "no-such-path": NotFound}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: TooMany,
    503: Unavailable,
    507: Unavailable,
}


def error_for(status: int, problem: Mapping[str, Any]) -> ApiError:
    """The error that an answer with this status and problem means."""
    kind = str(problem.get("type", "")).rpartition("#")[2]
    known = _BY_KIND.get(kind) or _BY_STATUS.get(status)
    return (known or (ServerError if status >= 500 else Invalid))(status, problem)
