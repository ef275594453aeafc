"""One HTTP call to a receiver: to the checked address, for the name in the URL, within a time and a size."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore2
import httpx2
from typing_extensions import override

from api.webhooks.addresses import Endpoint, Lookup, Refused, look_up, parse, resolve

TIMEOUT_S = 10.0  # for everything: looking up, connecting, TLS, sending, waiting, reading
LARGEST_ANSWER = 64 * 1024  # bytes of an answer's body that are read; what they say is not kept
LONGEST_WAIT_S = 3600.0  # that a receiver may ask for with Retry-After

Dial = Callable[[str, int, float], httpcore2.NetworkStream]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call went: a `status`, or the `error` that kept it from getting one."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it will never take another."""
        return self.status == 410


def dial(address: str, port: int, timeout_s: float) -> httpcore2.NetworkStream:
    """Connect to an address, never to a name. Raises httpcore2.ConnectError, httpcore2.ConnectTimeout."""
    return httpcore2.SyncBackend().connect_tcp(address, port, timeout=timeout_s)


class _Clock:
    """The time that is left of a call."""

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.seconds = seconds

    def left(self) -> float:
        left = self.began + self.seconds - time.monotonic()
        if left <= 0:
            raise httpcore2.TimeoutException
        return left

    def spent(self) -> float:
        return round(time.monotonic() - self.began, 3)


class _Stream(httpcore2.NetworkStream):
    """A connection on which no step may take longer than what is left: a byte every few seconds holds nobody up."""

    def __init__(self, inner: httpcore2.NetworkStream, clock: _Clock) -> None:
        self._inner = inner
        self._clock = clock

    @override
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left())

    @override
    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._clock.left())

    @override
    def close(self) -> None:
        self._inner.close()

    @override
    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        # httpcore2 passes the name of the URL: the certificate is checked against it, not against the address.
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._clock.left()), self._clock)

    @override
    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Pinned(httpcore2.NetworkBackend):
    """Connects to addresses that were checked, whatever host it is asked for."""

    def __init__(self, addresses: Iterable[str], clock: _Clock, connect: Dial) -> None:
        self._addresses = list(addresses)
        self._clock = clock
        self._connect = connect

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        for address in self._addresses[:-1]:  # an IPv6 address where there is no IPv6 fails at once
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return _Stream(self._connect(address, port, self._clock.left() / 2), self._clock)
        return _Stream(self._connect(self._addresses[-1], port, self._clock.left()), self._clock)


class Poster:
    """Posts to receivers. `lookup`, `connect` and `context` (of TLS) are for tests and for private authorities."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        lookup: Lookup = look_up,
        connect: Dial = dial,
        context: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._allow_private = allow_private
        self._lookup = lookup
        self._connect = connect
        self._context = context
        self._timeout_s = timeout_s

    def check(self, url: str) -> None:
        """Refuse a URL that will never be called. Raises Refused; a name that is not found now may be later."""
        endpoint = parse(url, allow_private=self._allow_private)
        with contextlib.suppress(OSError):
            resolve(endpoint, allow_private=self._allow_private, lookup=self._lookup, timeout_s=2.0)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Call a receiver once; redirects are answers like others. Never raises for what a receiver does."""
        clock = _Clock(self._timeout_s)
        try:
            endpoint = parse(url, allow_private=self._allow_private)
            addresses = resolve(
                endpoint, allow_private=self._allow_private, lookup=self._lookup, timeout_s=clock.left()
            )
            answer = self._call(endpoint, _Pinned(addresses, clock, self._connect), headers, body)
        except (Refused, OSError, httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            return Answer(error=_words(error, self._timeout_s), seconds=clock.spent())
        return Answer(answer.status, _unless_ok(answer.status), _retry_after(answer), clock.spent())

    def _call(
        self, endpoint: Endpoint, backend: _Pinned, headers: Mapping[str, str], body: bytes
    ) -> httpcore2.Response:
        url = httpcore2.URL(
            scheme=endpoint.scheme.encode(),
            host=endpoint.host.encode(),
            port=endpoint.port,
            target=endpoint.target.encode(),
        )
        sent = [
            ("Host", endpoint.authority),
            *headers.items(),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        request = httpcore2.Request("POST", url, headers=[(k.encode(), v.encode()) for k, v in sent], content=body)
        # A connection for one call: the next one is checked again.
        with httpcore2.ConnectionPool(ssl_context=self._tls(), network_backend=backend) as pool:
            response = pool.handle_request(request)
            try:
                _read_some(response)
            finally:
                response.close()
        return response

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:  # 20 ms: made by the first call that needs it
            self._context = httpx2.create_ssl_context()
        return self._context


def _read_some(response: httpcore2.Response) -> None:
    """Let a receiver finish what it says, up to a limit; what it says when it has taken the call is of no interest."""
    left = LARGEST_ANSWER
    with contextlib.suppress(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError):
        for part in response.iter_stream():
            left -= len(part)
            if left <= 0:
                return


def _unless_ok(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    moved = "; redirects are not followed" if 300 <= status < 400 else ""
    return f"the receiver answered {status}{moved}"


def _retry_after(response: httpcore2.Response) -> float | None:
    """The seconds that a busy receiver asks to wait, as a number; a date is passed over."""
    if response.status not in (429, 502, 503, 504):
        return None
    headers = {name.lower(): value for name, value in response.headers}
    said = headers.get(b"retry-after", b"").strip()
    return min(float(said), LONGEST_WAIT_S) if said.isdigit() and len(said) < 10 else None


def _words(error: Exception, timeout_s: float) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, httpcore2.TimeoutException | TimeoutError):
        return f"no answer within {timeout_s:.0f} s"
    if isinstance(error, httpcore2.ProtocolError):
        return f"the receiver does not speak HTTP: {error}"[:300]
    if isinstance(error, httpcore2.NetworkError):
        return f"the receiver cannot be reached: {error or type(error).__name__}"[:300]
    return f"the receiver's name cannot be looked up: {error}"[:300]
