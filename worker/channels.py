"""Connections to the broker that are closed where Celery forgets them.

A connection that a consumer has just made is Celery's only once it is registered with the event loop, and kombu writes
a lock there. Where the broker refuses that (READONLY, OOM), nobody closes the connection, and the consumer tries again
many times a second: its process would have all its file descriptors in use after a minute or two.
"""

from typing import Any

from kombu.transport.redis import Transport
from redis.exceptions import ResponseError

_register = Transport.register_with_event_loop


def _register_or_close(self: Any, connection: Any, loop: Any) -> None:
    try:
        _register(self, connection, loop)
    except ResponseError:
        self.close_connection(connection)
        raise


def close_refused() -> None:
    """From here on, in this process, a connection that cannot be registered is closed."""
    Transport.register_with_event_loop = _register_or_close
