"""The log: one JSON object per line (coloured text on a terminal), each with the id of the request it belongs to."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
access = logging.getLogger("pixmill.access")
FIELDS = ("request_id", "method", "path", "status", "ms", "bytes", "token", "job", "client")  # of an access line


def configure(level: str) -> None:
    """Send every log line of this process to stderr. For the process that serves: a library leaves logging alone."""
    import structlog  # a fifth of a second, needed only by the process that serves

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=FIELDS),
        _add_request_id,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]
    interactive = sys.stderr.isatty()
    last = structlog.dev.ConsoleRenderer() if interactive else structlog.processors.JSONRenderer(default=str)
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared[:-1] if interactive else shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Every line that is written while a request is answered names it, on whichever thread."""
    if (found := REQUEST_ID.get()) is not None:
        event.setdefault("request_id", found)
    return event
