"""Leased shards and their rows on the way to the database: collected per lease, committed in fenced slices."""

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from store.claims import LEASE_S, release
from store.commits import commit_slice
from store.database import Database
from store.errors import DatabaseUnavailable, LeaseLost
from store.failpoints import reach
from store.rows import Lease, NewResult
from store.stopping import stop_if_hopeless

Through = Callable[[Callable[[], object]], object]

SLICE_ITEMS = 512  # rows per commit at the most: what a kill may cost
SLICE_S = 1.0  # seconds between commits at the most: what a person waits to see


def _at_once(act: Callable[[], object]) -> object:
    return act()


@dataclass(slots=True)
class _Open:
    lease: Lease
    left: int | None = None  # rows still to come; None until the shard is begun
    rows: list[NewResult] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)


class Slices:
    """Every lease that one worker holds, by its token, with the rows that wait to be committed for it.

    One thread changes it; the heartbeat looks at `leases`.
    """

    def __init__(self, database: Database, lease_s: float = LEASE_S, through: Through = _at_once) -> None:
        """`through` does what writes: at once, or with patience where a disk is full."""
        self._database = database
        self._lease_s = lease_s
        self._through = through
        self._open: dict[str, _Open] = {}
        self.committed = 0  # rows, ever
        self.stopped: set[int] = set()  # jobs of which too many images failed

    def hold(self, lease: Lease) -> None:
        """Note a claimed shard: from here on it is kept alive, and given back in the end."""
        self._open[lease.token] = _Open(lease)

    def open(self, lease: Lease, items: int) -> None:
        """Begin a shard and expect `items` rows. One without any is closed at once."""
        shard = self._open.setdefault(lease.token, _Open(lease))
        shard.left = items
        if items == 0:
            self._commit(shard)

    def leases(self) -> list[Lease]:
        """What is held now."""
        return [shard.lease for shard in list(self._open.values())]

    def add(self, rows: Iterable[tuple[str, NewResult]]) -> None:
        """Take rows, each with the token of its lease, and commit what is due. Rows of a lost lease are thrown away."""
        for token, row in rows:
            shard = self._open.get(token)
            if shard is not None and shard.left is not None:
                shard.rows.append(row)
                shard.left -= 1
        now = time.monotonic()
        for shard in list(self._open.values()):
            due = len(shard.rows) >= SLICE_ITEMS or (shard.rows and now - shard.since > SLICE_S)
            if due or shard.left == 0:
                self._commit(shard)

    def _commit(self, shard: _Open) -> None:
        last = shard.left == 0
        reach("slice.before")
        try:
            self._through(lambda: self._write(shard, last=last))
            self.committed += len(shard.rows)
        except LeaseLost:
            last = True  # another attempt has it, or the job was cancelled: nothing of ours may be written
        if last:
            del self._open[shard.lease.token]
        if any(row.status == "failed" for row in shard.rows):
            self._judge(shard.lease.job_id)
        shard.rows, shard.since = [], time.monotonic()

    def _write(self, shard: _Open, *, last: bool) -> None:
        commit_slice(self._database, shard.lease, shard.rows, last=last, lease_s=self._lease_s)

    def _judge(self, job_id: int) -> None:
        """See whether the job goes on. What is committed stays; where this fails, the sweeper judges."""
        with suppress(DatabaseUnavailable):
            if stop_if_hopeless(self._database, job_id):
                self.stopped.add(job_id)

    def forget(self, tokens: Collection[str]) -> None:
        """Drop the leases that are lost."""
        for token in tokens:
            self._open.pop(token, None)

    def give_back(self, keep: Lease | None = None) -> None:
        """Commit what is there and release every shard that is not finished, but for `keep`."""
        for shard in list(self._open.values()):
            if keep is not None and shard.lease.token == keep.token:
                continue
            if shard.rows:
                self._commit(shard)
            if self._open.pop(shard.lease.token, None):
                self._through(partial(release, self._database, shard.lease))
