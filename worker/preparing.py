"""From a frozen item to pixels: read, hash, look up what is known, decode what is not."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from models.images import load_picture
from models.manifest import Preprocessing
from store.memory import Known
from store.rows import NewResult
from worker.answers import Prepared
from worker.failures import DECODING_ERRORS, of_decoding
from worker.reading import Content, Location, Reader
from worker.suspects.custody import Custody
from worker.twins import Twin, Twins

Recall = Callable[[Collection[bytes]], Mapping[bytes, Known]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One item that needs an answer. `file_key` names its path, size and time; None where they cannot be trusted."""

    idx: int
    location: Location
    file_key: bytes | None


def from_known(idx: int, known: Known, file_key: bytes | None) -> NewResult:
    """An earlier answer as this item's row."""
    return NewResult(
        idx,
        "ok",
        label=known.label,
        score=known.score,
        topk=known.topk,
        content_hash=known.content_hash,
        width=known.width,
        height=known.height,
        reused=True,
        file_key=file_key,
    )


class Preparer:
    """Prepares chunks of items; called from many threads. Without `recall` and `twins` nothing is reused.

    With `custody` it is noted what each thread has in hand, and items that ended a worker can be examined.
    """

    def __init__(
        self,
        reader: Reader,
        preprocessing: Preprocessing,
        *,
        max_pixels: int,
        recall: Recall | None = None,
        twins: Twins | None = None,
        custody: Custody | None = None,
    ) -> None:
        self._reader = reader
        self._preprocessing = preprocessing
        self._max_pixels = max_pixels
        self._recall = recall
        self._twins = twins
        self._custody = custody

    def prepare(self, owner: str, chunk: Sequence[Wanted]) -> Iterator[tuple[str, Prepared | NewResult]]:
        """Each item of a chunk as pixels or as a final row, paired with the token of its lease.

        Items that wait for an identical one come out with that one's answer, not here.
        """
        leaders: list[tuple[Wanted, Content]] = []
        for wanted in chunk:
            try:
                with self._holding(wanted):
                    content = self._reader.read(wanted.location)
            except DECODING_ERRORS as error:
                yield owner, of_decoding(wanted.idx, error)
                continue
            answer = self._enter(owner, wanted, content.digest)
            if answer is True:
                leaders.append((wanted, content))
            elif isinstance(answer, NewResult):
                yield owner, answer
        known = self._recall([content.digest for _, content in leaders]) if self._recall and leaders else {}
        for wanted, content in leaders:
            earlier = known.get(content.digest)
            if earlier is None:
                yield from self._decode(owner, wanted, content)
            else:
                yield from self.settle(owner, content.digest, from_known(wanted.idx, earlier, wanted.file_key))

    def examine(self, owner: str, wanted: Wanted) -> Iterator[tuple[str, Prepared | NewResult]]:
        """Prepare an item alone, in a process that may die of it; nothing comes out where the worker is to stop."""
        if self._custody is None:
            raise ValueError("expected a custody")
        try:
            self._reader.unpack(wanted.location)  # here, since it may take longer than an image
        except DECODING_ERRORS as error:
            yield owner, of_decoding(wanted.idx, error)
            return
        verdict = self._custody.examine(owner, wanted.idx, wanted.location)
        if verdict is None:
            return
        if verdict.picture is None or verdict.digest is None:
            row = NewResult(wanted.idx, "failed", verdict.code, verdict.message, content_hash=verdict.digest)
            yield from self.settle(owner, verdict.digest, row)
            return
        answer = self._enter(owner, wanted, verdict.digest)
        if answer is True:
            yield owner, Prepared(wanted.idx, verdict.picture, verdict.digest, wanted.file_key)
        elif isinstance(answer, NewResult):
            yield owner, answer

    def _holding(self, wanted: Wanted) -> AbstractContextManager[None]:
        return nullcontext() if self._custody is None else self._custody.holding(wanted.idx)

    def _enter(self, owner: str, wanted: Wanted, digest: bytes) -> NewResult | bool:
        if self._twins is None:
            return True
        return self._twins.enter(digest, Twin(wanted.idx, wanted.file_key, owner))

    def _decode(self, owner: str, wanted: Wanted, content: Content) -> Iterator[tuple[str, Prepared | NewResult]]:
        try:
            with self._holding(wanted):
                picture = load_picture(content.data, self._preprocessing, self._max_pixels)
        except DECODING_ERRORS as error:
            yield from self.settle(owner, content.digest, of_decoding(wanted.idx, error, content.digest))
        else:
            yield owner, Prepared(wanted.idx, picture, content.digest, wanted.file_key)

    def settle(self, owner: str, content_hash: bytes | None, result: NewResult) -> Iterator[tuple[str, NewResult]]:
        """A final row, and the rows of the identical items that waited for it."""
        yield owner, result
        if self._twins is not None and content_hash is not None:
            for twin in self._twins.settle(content_hash, result):
                yield twin.owner, twin.answer(result)
