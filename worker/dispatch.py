"""Ringing the doorbell: hints that there is work, best effort, never waited for.

A hint carries a job's id and nothing else; workers find the work in SQL. A lost hint costs at most one sweep.
"""

import logging
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from store.failpoints import reach
from worker.app import DRAIN, make_app
from worker.settings import Settings

log = logging.getLogger(__name__)

# What a broker that is absent, frozen, full or read-only makes the client raise.
BROKER_ERRORS = (KombuError, RedisError, OSError)


class Dispatcher:
    """Publishes hints to the broker."""

    def __init__(self, settings: Settings) -> None:
        self._app: Celery = make_app(settings)
        # A submission waits for this: shorter than what a worker allows itself.
        self._app.conf.broker_connection_timeout = 1
        self._app.conf.broker_transport_options = {
            **self._app.conf.broker_transport_options,
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
        }

    def ring(self, job_id: int | None, queue: str = "classify") -> bool:
        """Publish one hint. False where the broker cannot be reached; nothing is lost by that."""
        try:
            reach("publish.before")
            self._app.send_task(DRAIN, args=[job_id], queue=queue, retry=False, ignore_result=True)
            reach("publish.after")
        except BROKER_ERRORS as error:
            log.info("no hint for job %s: %s", job_id, error)
            return False
        return True

    def waiting(self, queue: str = "classify") -> int | None:
        """How many hints lie in a queue; None where the broker cannot be reached."""
        try:
            with self._app.connection_for_write() as connection:
                channel: Any = connection.default_channel
                return int(channel.client.llen(queue))
        except BROKER_ERRORS as error:
            log.info("broker not reached: %s", error)
            return None

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()
