"""Whether this process lives, and whether the installation can do work now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Response

from api.context import Here
from api.schemas.text import Output
from store import schema
from store.figures import crew
from store.troubles import lacks_room

if TYPE_CHECKING:
    from api.context import Context

PATIENCE_S = 1.0  # for each check; they run side by side
KEPT_S = 1.0  # an answer is given again for so long, however often it is asked for

router = APIRouter(tags=["health"])


class Check(Output):
    """One part that work needs."""

    ok: bool
    detail: str


class Readiness(Output):
    """Whether work can be done, and with `verbose` what each part says."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check] | None = None


class Liveness(Output):
    """This process answers."""

    status: Literal["alive"]


class Probe:
    """One check in a thread of its own: one that hangs holds nobody up, and is not started twice."""

    def __init__(self, check: Callable[[], str]) -> None:
        """`check` returns what is well, or raises with what is not."""
        self._check = check
        self._thread: threading.Thread | None = None
        self._found = Check(ok=False, detail="not checked yet")

    def begin(self) -> None:
        """Start to look, unless the last look has not come back."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._look, name="readiness", daemon=True)
            self._thread.start()

    def result(self, deadline: float) -> Check:
        """What was found, at the latest at `deadline` (of time.monotonic)."""
        assert self._thread is not None  # noqa: S101  begin comes before
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return Check(ok=False, detail=f"no answer within {PATIENCE_S:.0f} s")
        return self._found

    def _look(self) -> None:
        try:
            self._found = Check(ok=True, detail=self._check())
        except Exception as error:  # noqa: BLE001  whatever it is, it means: not ready
            self._found = Check(ok=False, detail=_said(error))


class Health:
    """The checks of this installation. A part of the context; safe for many callers at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._probes = {"database": Probe(self._database), "broker": Probe(self._broker), "worker": Probe(self._worker)}
        self._lock = threading.Lock()
        self._kept: tuple[float, dict[str, Check]] = (float("-inf"), {})

    def report(self) -> dict[str, Check]:
        """What each part says; takes a second at the most, and for a second says the same again."""
        with self._lock:
            at, found = self._kept
            if time.monotonic() - at < KEPT_S:
                return found
            for probe in self._probes.values():
                probe.begin()
            deadline = time.monotonic() + PATIENCE_S
            found = {name: probe.result(deadline) for name, probe in self._probes.items()}
            self._kept = (time.monotonic(), found)
            return found

    def _database(self) -> str:
        schema.check(self._context.database)
        if lacks_room(self._context.database):
            raise ConnectionError("no space is left: work waits until there is some")
        return f"schema {schema.HEAD}"

    def _broker(self) -> str:
        url = self._context.settings.broker
        if url.startswith(("redis://", "rediss://", "redis+socket://")):
            _ping(url)
        elif self._context.dispatcher.waiting() is None:  # what only Celery knows to reach
            raise ConnectionError("not reachable")
        return "answers"

    def _worker(self) -> str:
        """A worker with a model loaded; with none, an idle one will do while nothing waits for it.

        A cold worker loads a model when the first job for it comes. Were it not ready until then, a load balancer that
        asks here would never let that job through.
        """
        found = crew(self._context.database, self._context.settings.lease_s)
        if found.warm:
            return f"{found.warm} with a model loaded"
        if not found.cold:
            raise ConnectionError("no worker has reported lately")
        if found.has_work:
            raise ConnectionError(f"images wait, and {found.cold} at work or waiting have no model loaded yet")
        return f"{found.cold} idle; a model is loaded when the first job comes"


def _ping(url: str) -> None:
    """Ask a broker for a sign of life, once. Raises ConnectionError."""
    from redis import Redis  # Celery's own way retries for two seconds; this one asks once
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    options: dict[str, Any] = {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}
    options["retry"] = Retry(NoBackoff(), 0)
    path = url.partition("?")[0].removeprefix("redis+socket://")
    try:
        client = (
            Redis(unix_socket_path=path, **options)
            if url.startswith("redis+socket://")
            else Redis.from_url(url, **options)
        )
        with client:
            client.ping()
    except (RedisError, OSError) as error:
        raise ConnectionError("not reachable") from error


_LOOKS = CapacityLimiter(8)  # threads of its own: requests that wait for the database must not delay this answer


@router.get("/livez", operation_id="live", summary="Whether this process answers", response_model=Liveness)
async def live() -> Liveness:
    """Says nothing of the database, the broker or the workers."""
    return Liveness(status="alive")


@router.get(
    "/readyz",
    operation_id="ready",
    summary="Whether the installation can do work now",
    response_model=Readiness,
    response_model_exclude_none=True,
    responses={503: {"model": Readiness, "description": "Some part is missing"}},
)
async def ready(
    here: Here,
    response: Response,
    verbose: str | None = Query(None, max_length=8, description="Say what each part says."),
) -> Readiness:
    """Database, broker, and a worker with a model loaded or, while nothing waits, an idle one.

    Never takes longer than about a second.
    """
    checks = await to_thread.run_sync(here.part(Health).report, limiter=_LOOKS)
    well = all(check.ok for check in checks.values())
    response.status_code = 200 if well else 503
    shown = checks if verbose is not None and verbose.lower() not in ("0", "false", "no") else None
    return Readiness(status="ready" if well else "not ready", checks=shown)


def _said(error: Exception) -> str:
    """The reason without addresses and paths: anybody may ask."""
    return str(error) if type(error) is ConnectionError else type(error).__name__
