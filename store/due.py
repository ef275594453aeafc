"""Whether work waits that could be claimed now, and whether a worker has some: what a watchdog goes by. Only reads."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select

from store.clock import db_now
from store.database import Database
from store.states import CLAIMABLE, ShardState
from store.tables import jobs, shards


def due_queues(database: Database, queues: Collection[str]) -> set[str]:
    """Those of the queues from which a worker could claim a shard now: not paused, not waiting. Raises StoreError."""
    with database.read() as connection:
        return {
            queue
            for queue in queues
            if connection.scalar(
                select(shards.c.id)
                .join(jobs, jobs.c.id == shards.c.job_id)
                .where(
                    jobs.c.state.in_(CLAIMABLE),
                    shards.c.state == ShardState.READY,
                    shards.c.queue == queue,
                    shards.c.not_before <= db_now(),
                )
                .limit(1)
            )
            is not None
        }


def holders(database: Database) -> set[str]:
    """The workers that hold a shard and have renewed its lease in time. Raises StoreError."""
    held = (shards.c.state == ShardState.LEASED) & (shards.c.lease_until > db_now())
    with database.read() as connection:
        return set(connection.scalars(select(shards.c.worker_id).where(held).distinct()))
