"""Sends an open file: whole or one range of it, in blocks, with its strong ETag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Request
from starlette.responses import Response

from api.images.stream import HeldResponse
from api.paging import is_known

BLOCK = 1 << 16
_RANGE = re.compile(r"bytes=([0-9]{0,16})-([0-9]{0,16})")


@dataclass(frozen=True, slots=True)
class Sendable:
    """An open file of `size` bytes. `close` closes it and gives back what is held for it."""

    file: BinaryIO
    size: int
    media_type: str
    close: Callable[[], None]


def send_file(request: Request, sendable: Sendable, headers: Mapping[str, str], *, tag: str | None = None) -> Response:
    """The response: 200, or 206 and 416 where one range is asked for (RFC 9110 §14). It closes the file at its end."""
    size = sendable.size
    sent = {**headers, "Accept-Ranges": "bytes", **({"ETag": tag} if tag else {})}
    asked = _RANGE.fullmatch(request.headers.get("range", "")) if _applies(request, tag) else None
    if asked is None or not (asked[1] or asked[2]):
        return _stream(sendable, 0, size, 200, sent)
    start, end = _span(asked[1], asked[2], size)
    if start >= end:
        sendable.close()
        return Response(status_code=416, headers={**sent, "Content-Range": f"bytes */{size}"})
    sent["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return _stream(sendable, start, end, 206, sent)


def not_modified(request: Request, tag: str, headers: Mapping[str, str]) -> Response | None:
    """304 where the client has it already."""
    if not is_known(request.headers.get("if-none-match"), tag):
        return None
    return Response(status_code=304, headers={**headers, "ETag": tag})


def disposition(kind: str, name: str) -> str:
    """Content-Disposition with a file name of any characters (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _applies(request: Request, tag: str | None) -> bool:
    condition = request.headers.get("if-range")
    return condition is None or condition == tag


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """Where the range begins and ends; `-500` are the last 500 bytes."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _stream(sendable: Sendable, start: int, end: int, status: int, headers: Mapping[str, str]) -> HeldResponse:
    sent = {**headers, "Content-Length": str(end - start)}
    blocks = _blocks(sendable.file, start, end)
    return HeldResponse(blocks, sendable.close, sendable.media_type, sent, status)


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    left = end - start
    while left:
        block = file.read(min(BLOCK, left))
        if not block:
            raise OSError(f"expected {left} more bytes to send, found none")
        left -= len(block)
        yield block
