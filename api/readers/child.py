"""A reader: the routes that read, answered one after the other for the API that started this process.

It decides nothing about access: the API has looked at the token, and says who asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI

from api.app import make_reading_app
from api.logs import REQUEST_ID, configure
from api.problems import Problem, problem_of, render
from api.readers.message import Answered, Asked, put, take
from worker.settings import Settings

log = logging.getLogger(__name__)

IDLE_S = 120.0  # a reader that nobody asks for so long ends: it takes some 90 MB


def main() -> None:
    """Answer until the API ends, or asks for nothing any more."""
    settings = Settings()
    configure(settings.log_level)
    app = make_reading_app(settings)
    # What libraries print must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asked = sys.stdin.buffer
    put(answers, Answered(204, [], b""))  # ready
    with asyncio.Runner() as runner:
        while select.select([asked.fileno()], [], [], IDLE_S)[0]:
            request = take(asked.read)
            if request is None:
                return
            put(answers, runner.run(answer(app, request)))


async def answer(app: FastAPI, asked: Asked) -> Answered:
    """What the app answers to one request, whatever happens inside."""
    said = _Said()
    REQUEST_ID.set(asked.request_id)
    scope = _scope(asked)
    try:
        await app(scope, _nothing, said.hear)
    except Exception as error:
        said = _Said()
        problem = problem_of(error)
        if problem is None:
            log.error("%s failed", asked.path, exc_info=error)
            text = "Something went wrong inside; the server's log says what, under this request_id."
            problem = Problem("internal", text)
        await render(problem, asked.request_id, asked.path)(scope, _nothing, said.hear)
    return Answered(said.status, said.headers, b"".join(said.body))


class _Said:
    """The messages of one answer, put together."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []

    async def hear(self, message: MutableMapping[str, Any]) -> None:
        """Take a message."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        else:
            self.body.append(message.get("body", b""))


def _scope(asked: Asked) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "root_path": "",
        "query_string": asked.query,
        "headers": asked.headers,
        "state": {"caller": asked.caller, "request_id": asked.request_id},
    }


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}
