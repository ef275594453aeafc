"""Rows on their way to the database: collected per shard, committed in fenced slices."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from store.claims import release
from store.commits import commit_slice
from store.database import Database
from store.errors import LeaseLost
from store.rows import Lease, NewResult

SLICE_ITEMS = 512  # rows per commit at the most: what a kill may cost
SLICE_S = 1.0  # seconds between commits at the most: what a person waits to see


@dataclass(slots=True)
class _Open:
    lease: Lease
    left: int  # rows still to come
    rows: list[NewResult] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class Slices:
    """The leased shards of one worker and the rows that wait to be committed for them. One thread uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[int, _Open] = {}
        self.committed = 0  # rows, ever

    def open(self, lease: Lease, items: int) -> None:
        """Expect `items` rows for a shard. One without any is closed at once."""
        self._open[lease.shard_id] = _Open(lease, items)
        if items == 0:
            self._commit(self._open[lease.shard_id])

    def leases(self) -> list[Lease]:
        """What is held now."""
        return [shard.lease for shard in list(self._open.values())]

    def add(self, rows: Iterable[tuple[int, NewResult]]) -> None:
        """Take rows, each with the id of its shard, and commit what is due. Rows of a lost shard are thrown away."""
        for shard_id, row in rows:
            if shard := self._open.get(shard_id):
                shard.rows.append(row)
                shard.left -= 1
        now = time.monotonic()
        for shard in list(self._open.values()):
            due = len(shard.rows) >= SLICE_ITEMS or (shard.rows and now - shard.since > SLICE_S)
            if due or shard.left == 0:
                self._commit(shard)

    def _commit(self, shard: _Open) -> None:
        last = shard.left == 0
        try:
            commit_slice(self._database, shard.lease, shard.rows, last=last)
            self.committed += len(shard.rows)
        except LeaseLost:
            last = True  # another attempt has it, or the job was cancelled: nothing of ours may be written
        if last:
            del self._open[shard.lease.shard_id]
        shard.rows, shard.since = [], time.monotonic()

    def forget(self, tokens: Collection[str]) -> None:
        """Drop the shards whose leases are lost, by their tokens."""
        for shard in list(self._open.values()):
            if shard.lease.token in tokens:
                del self._open[shard.lease.shard_id]

    def give_back(self) -> None:
        """Commit what is there and release every shard that is not finished."""
        for shard in list(self._open.values()):
            if shard.rows:
                self._commit(shard)
            if self._open.pop(shard.lease.shard_id, None):
                release(self._database, shard.lease)
