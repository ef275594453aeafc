"""When a request is sent again: the server said how long to wait, or the connection broke before an answer came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import httpx2

from api.client.errors import ApiError, BrokenAnswer, Unreachable, error_for

TRIES = 4
LONGEST_S = 30.0  # a server that asks for more gets no second try: the caller decides
RETRYABLE = (429, 503)
SHORT_S = 0.2  # after a connection that broke, doubled each time


@dataclass(slots=True)
class Tries:
    """Counts the tries of one request. `safe`: sending it twice does what sending it once does."""

    server: str
    safe: bool
    done: int = 0

    def pause_after(self, response: httpx2.Response) -> float | None:
        """Seconds to wait before the next try; None where this answer stands. Its body is not needed."""
        self.done += 1
        if response.status_code not in RETRYABLE or not self.safe or self.done >= TRIES:
            return None
        said = response.headers.get("retry-after", "")
        wait = float(said) if said.isdecimal() else SHORT_S * 2.0**self.done
        return wait if wait <= LONGEST_S else None

    def pause_after_error(self, error: httpx2.TransportError) -> float:
        """Seconds to wait before the next try. Raises Unreachable where there is no use in one."""
        self.done += 1
        refused = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol)
        if refused or not self.safe or self.done >= TRIES:
            raise unreachable(self.server, error) from error
        return SHORT_S * 2.0**self.done


def unreachable(server: str, error: Exception) -> Unreachable:
    """What a broken connection means to a person."""
    reason = str(error).strip() or type(error).__name__
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout | httpx2.PoolTimeout):
        reason = "it does not answer in time"
    return Unreachable(server, reason.rstrip("."))


def refusal(response: httpx2.Response) -> ApiError:
    """The error that an answer with a status of 400 or more is; its body was read."""
    try:
        problem: Any = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"The server answered with {response.status_code} {response.reason_phrase}".strip()}
    return error_for(response.status_code, problem)


def strange(server: str, error: Exception) -> BrokenAnswer:
    """The error for an answer that is none of Pixmill's."""
    return BrokenAnswer(f"{server} answered with what a Pixmill server never says: {error!r}. Is it one, and as new?")


def broken(server: str, error: Exception) -> NoReturn:
    """Raise BrokenAnswer for an answer that ended too soon."""
    raise BrokenAnswer(f"The answer of {server} broke off before it was whole: {error}.") from error
