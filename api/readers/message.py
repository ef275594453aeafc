"""What the API and its readers say to each other: one request and one answer after another, through two pipes."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a reader needs it: its target, what decides about a 304, and who asks (an api.access.Caller)."""

    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    caller: Any
    request_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = field(repr=False)


def put(pipe: IO[bytes], message: Asked | Answered) -> None:
    """Write one message. Raises OSError where nobody reads any more."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def take(read: Callable[[int], bytes]) -> Any:
    """The next message; None where the other side has ended. `read` gives so many bytes, or fewer at the end."""
    head = read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    data = read(size)
    return pickle.loads(data) if len(data) == size else None  # noqa: S301  see above
