"""The real app with a few routes more, that do what a route should not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.app import make_app
from api.guards import raw_body
from api.schemas.text import Id, Input, Text64
from store.errors import DatabaseUnavailable, IllegalMove
from worker.settings import Settings


class Wish(Input):
    """A body with one of each."""

    name: Text64
    count: Annotated[int, Field(ge=0, le=9)] = 0


def guarded(home: Path, **settings: object) -> FastAPI:
    """An app with small limits: 1 MiB of JSON, 2 MiB of upload."""
    app = make_app(Settings.model_validate({"home": home, "max_body_mb": 1, "max_upload_mb": 2, **settings}), roots=())

    @app.post("/test/json")
    def take(wish: Wish) -> dict[str, str]:
        return {"name": wish.name}

    @app.get("/test/jobs/{job}")
    def numbered(job: Id, text: Text64 = "") -> dict[str, object]:
        return {"job": job, "text": text}

    @app.post("/test/raw")
    @raw_body
    async def stream(request: Request) -> dict[str, int]:
        return {"bytes": sum([len(piece) async for piece in request.stream()])}

    _add_failing(app)
    return app


def _add_failing(app: FastAPI) -> None:
    @app.get("/test/bug")
    def bug() -> None:
        raise KeyError("a secret of the inside")

    @app.get("/test/full")
    def full() -> None:
        raise OSError(28, "No space left on device", "/a/path")

    @app.get("/test/store")
    def store() -> None:
        raise DatabaseUnavailable("The database is away.")

    @app.get("/test/pool")
    def pool() -> None:
        raise PoolTimeout("no connection was free")

    @app.get("/test/move")
    def move() -> None:
        raise IllegalMove(7, "done", "paused")

    @app.get("/test/half")
    def half() -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            yield b"the first half"
            raise DatabaseUnavailable("gone")

        return StreamingResponse(pieces())
