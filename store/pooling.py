"""PostgreSQL connections that were in use a moment ago are used again without a question: each costs an exchange."""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

FRESH_S = 1.0  # how long a connection that worked is taken to work
_FREE_SINCE = "pixmill_free_since"


def ping_idle(engine: Engine) -> None:
    """Ask the server before a connection is used again that lay idle for long, or on which something came meanwhile.

    In the place of `pool_pre_ping`. What came is the end of the connection, nearly always: nobody has asked anything.
    """

    @event.listens_for(engine, "checkin")
    def _checkin(_: Any, entry: ConnectionPoolEntry) -> None:
        entry.info[_FREE_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, entry: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        since = entry.info.get(_FREE_SINCE)
        if since is None or (time.monotonic() - since < FRESH_S and not _has_heard(connection)):
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            if not engine.dialect.is_disconnect(error, connection, None):
                raise
            raise InvalidatePoolError from error


def _has_heard(connection: psycopg.Connection[Any]) -> bool:
    """Whether there is something to read, or nothing to read from."""
    heard = select.poll()
    try:
        heard.register(connection.pgconn.socket, select.POLLIN)
    except psycopg.OperationalError:  # it is closed
        return True
    return bool(heard.poll(0))
