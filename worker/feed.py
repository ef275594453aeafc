"""The stream of items that a drain works on: one shard after another of the same job, claimed as they are needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

import blake3

from store.database import Database
from store.insights import items_left
from store.memory import recall
from store.rows import ItemRow, JobRow, Lease
from worker.pipeline import Chunk
from worker.preparing import Wanted, from_known
from worker.reading import Location
from worker.slices import Slices

# A file changed again within the clock tick of its time stamp looks unchanged; such a stamp is not trusted yet.
_COARSE_TICK_NS = 2_000_000_000  # whole seconds: FAT, old NFS
_FINE_TICK_NS = 20_000_000


def file_key(location: Location, now_ns: int) -> bytes | None:
    """A 128-bit name for a file's path, size and time stamp; None where they cannot be trusted to notice a change."""
    if location.size is None or location.mtime_ns is None:
        return None
    tick = _COARSE_TICK_NS if location.mtime_ns % 1_000_000_000 == 0 else _FINE_TICK_NS
    if location.mtime_ns > now_ns - tick:
        return None
    facts = (location.root, location.path, (location.member or "").encode("utf-8", "surrogateescape"))
    stamp = f"{location.size}:{location.mtime_ns}:{location.offset}".encode()
    return blake3.blake3(b"file\0" + b"\0".join((*facts, stamp))).digest(16)


class Feed:
    """Chunks of a job's shards. Claims the next shard when the last one's items are handed over."""

    def __init__(
        self,
        database: Database,
        job: JobRow,
        slices: Slices,
        claim_next: Callable[[], Lease | None],
        chunk_size: int,
        suspects: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        """`suspects`: indices of items that may have ended a worker. They come first, each in a chunk of its own.

        `claim_next` claims beside what is in hand, so it takes no shard that is to be worked on alone.
        """
        self._database = database
        self._job = job
        self._slices = slices
        self._claim_next = claim_next
        self._chunk_size = chunk_size
        self._suspects = suspects
        self.left_over: Lease | None = None  # a shard of another job, which is not begun

    def chunks(self, first: Lease, halted: Callable[[], bool]) -> Iterator[Chunk]:
        """Everything that is left to do, until `halted`, until the queue is empty, or until another job is due.

        A shard on which an attempt has failed is worked on alone: where that fails again, it is its own images' doing,
        and no other shard in the same batch loses an attempt by it.
        """
        lease: Lease | None = first
        while lease is not None:
            if lease.job_id != self._job.id:
                self.left_over = lease
                return
            for chunk in self._of_shard(lease):
                if halted():
                    return
                yield chunk
            lease = None if halted() or lease.attempt > 1 else self._claim_next()

    def _of_shard(self, lease: Lease) -> Iterator[Chunk]:
        items = items_left(self._database, lease)
        self._slices.open(lease, len(items))
        now_ns = time.time_ns()
        wanted = [self._wanted(item, now_ns) for item in items]
        if self._job.reuse and lease.model_id is not None:
            wanted = self._answer_unchanged(lease, lease.model_id, wanted)
        if suspects := self._suspects():
            yield from (Chunk(lease.token, [item], suspect=True) for item in wanted if item.idx in suspects)
            wanted = [item for item in wanted if item.idx not in suspects]
        for start in range(0, len(wanted), self._chunk_size):
            yield Chunk(lease.token, wanted[start : start + self._chunk_size])

    def _wanted(self, item: ItemRow, now_ns: int) -> Wanted:
        location = Location(
            root=self._job.root,
            path=item.path,
            confined=self._job.confined,
            size=item.size,
            mtime_ns=item.mtime_ns,
            member=item.member,
            offset=item.offset,
        )
        return Wanted(item.idx, location, file_key(location, now_ns))

    def _answer_unchanged(self, lease: Lease, model_id: int, wanted: list[Wanted]) -> list[Wanted]:
        """Give unchanged files their earlier answers, unread; returns the rest."""
        keys = [item.file_key for item in wanted if item.file_key is not None]
        known = recall(self._database, model_id, self._job.top_k, keys)
        rest, rows = [], []
        for item in wanted:
            earlier = known.get(item.file_key) if item.file_key else None
            if earlier is None:
                rest.append(item)
            else:  # its file key is known already: no need to write it again
                rows.append((lease.token, from_known(item.idx, earlier, None)))
        self._slices.add(rows)
        return rest
