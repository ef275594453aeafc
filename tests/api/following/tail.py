"""A listener of event streams for tests: a real client in a thread of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.sweep import sweep
from tests.serving import Served
from tests.store.conftest import ok_results

Event = tuple[str, dict[str, Any], str]  # name, data, the last id


class Tail:
    """Reads a job's stream until it ends or is dropped, and keeps what came."""

    def __init__(
        self, url: str, token: str, job: int, last_id: str | None = None, hang_up_after: int = 10**9, **query: int
    ) -> None:
        self.events: list[Event] = []
        self.status = 0
        self.error: Exception | None = None
        self._most = hang_up_after
        self._changed = threading.Condition()
        headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last_id} if last_id else {})
        self._request = {"url": f"{url}/jobs/{job}/events", "headers": headers, "params": query}
        self._thread = threading.Thread(target=self._run, name="tail")
        self._thread.start()

    def _run(self) -> None:
        try:
            with httpx2.Client(timeout=60) as client, client.stream("GET", **self._request) as response:  # type: ignore[arg-type]  # by name
                with self._changed:
                    self.status = response.status_code
                    self._changed.notify_all()
                if response.status_code == 200:
                    self._read(response)
        except httpx2.TransportError as error:
            self.error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def _read(self, response: httpx2.Response) -> None:
        for event in httpx2.EventSource(response):
            if event.data:
                with self._changed:
                    self.events.append((event.event, json.loads(event.data), event.id))
                    self._changed.notify_all()
            if len(self.events) >= self._most:
                return

    def wait_for(self, condition: Callable[[list[Event]], bool], what: str = "it") -> None:
        """Wait until the events fulfil a condition; fails after a generous time."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.events), 30), f"{what} did not come: {self.events}"

    def wait_open(self) -> None:
        """Wait until the server has answered."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.status or self.error, 30), "no answer"

    def ended(self, seconds: float = 30) -> list[Event]:
        """Wait until the stream has ended; what came."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the stream did not end: {self.events}"
        return self.events

    def named(self, *names: str) -> list[dict[str, Any]]:
        """The data of the events with these names."""
        return [data for name, data, _ in list(self.events) if name in names]

    @property
    def kinds(self) -> list[str]:
        """What happened to the job, in order."""
        return [data["kind"] for data in self.named("state", "log")]

    @property
    def last_id(self) -> str:
        """What a browser would send as Last-Event-ID."""
        return self.events[-1][2]


def finish(store: Database) -> None:
    """Classify all that is left of every job."""
    while (lease := claim(store, Claimer("w"))) is not None:
        commit_slice(store, lease, ok_results(lease), last=True)
    sweep(store)


def listen(served: Served, job: int, last_id: str | None = None, hang_up_after: int = 10**9, **query: int) -> Tail:
    return Tail(served.api, served.token, job, last_id, hang_up_after, **query)


@contextmanager
def deaf(served: Served, job: int) -> Iterator[socket.socket]:
    """A client that asks for a stream and never reads."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.connect((host, int(port)))
        request = (
            f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {served.token}\r\n\r\n"
        )
        made.sendall(request.encode())
        yield made
