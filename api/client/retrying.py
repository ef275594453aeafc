"""When a request is sent again: the server said how long to wait, the connection broke, or none was taken yet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

import httpx2

from api.client.errors import ApiError, BrokenAnswer, Unreachable, error_for

TRIES = 4
LONGEST_S = 30.0  # a server that asks for more gets no second try: the caller decides
RETRYABLE = (429, 503)
SHORT_S = 0.2  # after a connection that broke, doubled each time
PATIENCE_S = 10.0  # how long whoever follows a job waits for a server that is away: one that restarts is back by then
LONGEST_PAUSE_S = 2.0  # between two looks whether it is back


@dataclass(slots=True)
class Patience:
    """How long a server that is away is waited for: pauses that grow, until `seconds` are over."""

    seconds: float
    _since: float | None = None
    _pause_s: float = SHORT_S

    def pause(self) -> float | None:
        """Seconds until the next look; None once there was enough of them."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if self.seconds <= 0 or now - self._since > self.seconds:
            return None
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return self._pause_s

    def renew(self) -> None:
        """The server is there: count anew when it goes again."""
        self._since, self._pause_s = None, SHORT_S


@dataclass(slots=True)
class Tries:
    """Counts the tries of one request. `safe`: sending it twice does what sending it once does.

    `patience`: for a server that takes no connection; what was not sent may be sent again, whatever it is.
    """

    server: str
    safe: bool
    patience: Patience = field(default_factory=lambda: Patience(0.0))
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
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            pause = self.patience.pause()
            if pause is None:
                raise unreachable(self.server, error) from error
            return pause
        self.done += 1
        if isinstance(error, httpx2.UnsupportedProtocol) or not self.safe or self.done >= TRIES:
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
