"""The Python client of a Pixmill server: `from api.client import Client, AsyncClient`.

It needs neither FastAPI nor a machine-learning package; rows are the frozen dataclasses of `store`.
"""

from __future__ import annotations

from api.client.asynchronous import AsyncClient
from api.client.errors import (
    ApiError,
    BrokenAnswer,
    ClientError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    NotReadable,
    ServerError,
    TooMany,
    Unavailable,
    Unreachable,
)
from api.client.events import Event
from api.client.synchronous import Client
from api.client.tables import Table

__all__ = [
    "ApiError",
    "AsyncClient",
    "BrokenAnswer",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "Invalid",
    "NotAllowed",
    "NotFound",
    "NotReadable",
    "ServerError",
    "Table",
    "TooMany",
    "Unavailable",
    "Unreachable",
]
