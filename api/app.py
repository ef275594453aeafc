"""The application: routers, guards, handlers and long-lived parts put together."""

from __future__ import annotations

import importlib
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.context import Context
from api.guards import guards
from api.logs import REQUEST_ID
from api.openapi import finished
from api.problems import from_http, from_validation, render
from worker.settings import Settings

PREFIX = "/api/v1"
TOP = ("api.health", "api.metrics", "api.page")  # served beside the API, not below its prefix
# An address is looked for in this order: what is asked most stands first.
ROUTERS = (
    "results", "items", "job", "jobs", "images", "events", "submit", "control", "quick", "uploads", "exports", "labels",
    "runs", "models", "workers", "sql", "webhooks", "tokens",
)  # fmt: skip
# What starts with the process and is stopped with it: a class that takes the context, with start() and stop().
SERVICES = ("api.touches:Touches", "api.submission.service:Submissions", "api.webhooks.sender:Sender")


class Pixmill(FastAPI):
    """FastAPI whose description of itself says all that every operation shares."""

    _described: dict[str, Any] | None = None
    _lock = threading.Lock()

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 description, made at its first use."""
        with self._lock:
            if self._described is None:
                self._described = finished(super().openapi())
            return self._described


def make_app(settings: Settings, *, roots: Sequence[Path] | None = None) -> FastAPI:
    """The API of one installation. Connects to nothing before a request comes.

    `roots` goes before the settings' own. Raises OSError for a root that is not there.
    """
    app = Pixmill(
        title="Pixmill",
        summary="Submit folders of pictures, query the rows they became.",
        version=version("pixmill"),
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        middleware=guards(settings),
        exception_handlers={HTTPException: _refused, RequestValidationError: _invalid},
    )
    app.state.context = Context(settings, roots)
    for name in TOP:
        app.include_router(importlib.import_module(name).router)
    for name in ROUTERS:
        app.include_router(importlib.import_module(f"api.routes.{name}").router, prefix=PREFIX)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    for name in SERVICES:
        module, _, kind = name.partition(":")
        context.part(getattr(importlib.import_module(module), kind)).start()
    try:
        yield
    finally:
        await to_thread.run_sync(context.close)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  Starlette's signature is wider than its call
    if error.status_code == 405:
        error = HTTPException(405, headers={"Allow": _methods(request)})
    return render(from_http(error), REQUEST_ID.get() or "", request.url.path)


def _methods(request: Request) -> str:
    """Every method of an address: the framework names only those of the first route that fits."""
    path = request.scope["path"]
    fitting = (route for route in iter_route_contexts(request.app.routes) if route.path_regex.match(path))
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  as above
    problem = from_validation(error.errors(), request.headers.get("content-type"))
    return render(problem, REQUEST_ID.get() or "", request.url.path)
