"""Any question to the database, for administrators."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, BinaryIO, cast

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from api.access import ADMINISTERS
from api.context import Context, Here
from api.images.gate import Gate
from api.problems import Problem, documented
from api.schemas.text import Input, Plain
from store.asking import MAX_QUERY, Answer, QueryRefused, QueryTooSlow, ask

router = APIRouter(tags=["sql"])

LINES = "application/x-ndjson"
IN_MEMORY = 1 << 20  # bytes of an answer; a longer one waits in a nameless file
MOST = 1 << 30
AT_ONCE = 4
DEFAULT_S, MOST_S = 30.0, 600.0


class Question(Input):
    """One SELECT, and how long it may take, in seconds."""

    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY), Plain]
    timeout_s: Annotated[float, Field(ge=0.1, le=MOST_S)] = DEFAULT_S


class Questions:
    """The gate that questions pass."""

    def __init__(self, _: Context) -> None:
        self.gate = Gate(AT_ONCE, "queries run")


@router.post(
    "/sql",
    operation_id="ask",
    dependencies=[ADMINISTERS],
    summary="Ask the database one read-only question; the rows come as JSON lines",
    response_class=Response,
    responses={
        200: {
            "description": 'The first line is `{"columns": […]}`, each further one a row as an array.',
            "content": {LINES: {"schema": {"type": "string"}}},
        },
        **documented("query-refused", "query-too-slow"),
    },
)
def sql(here: Here, body: Question) -> Response:
    """docs/schema.md describes the views. The answer begins when the query has ended, so it never breaks off."""
    with here.part(Questions).gate.turn():
        file = _answered(here, body)
    return StreamingResponse(_blocks(file), media_type=LINES)


def _answered(here: Context, body: Question) -> BinaryIO:
    """The whole answer, so that no transaction waits for a slow client."""
    file = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115  closed when it is sent
    try:
        with ask(here.database, body.query, timeout_s=body.timeout_s) as answer:
            for line in _lines(answer):
                file.write(line)
                if file.tell() > MOST:
                    raise QueryRefused(f"The answer is larger than {MOST >> 20:,} MiB. Ask for less.")
    except QueryTooSlow as error:
        file.close()
        raise Problem("query-too-slow", str(error)) from error
    except QueryRefused as error:
        file.close()
        raise Problem("query-refused", str(error)) from error
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _lines(answer: Answer) -> Iterator[bytes]:
    yield _line({"columns": list(answer.columns)})
    yield from map(_line, answer.rows)


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace") + b"\n"


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with closing(file):
        while block := file.read(1 << 18):
            yield block
