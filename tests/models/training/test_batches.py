"""Batches: their order follows from seed and epoch alone, and reading ahead changes nothing."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.training.batches import Batch, Batches
from tests.models.training.array_pictures import ArrayPictures


def batches(count: int = 23, **said: Any) -> Batches:
    variants = said.get("variants", 1)
    pictures = np.arange(count * variants, dtype=np.float32)[:, None]
    return Batches(ArrayPictures(pictures), np.arange(count) % 4, said.pop("batch_size", 5), **said)


def collect(made: Batches, epoch: int, start: int = 0) -> list[tuple[list[int], list[float], int]]:
    return [(b.items.tolist(), b.x[:, 0].tolist(), b.step) for b in made.stream(epoch, lambda b: b, start)]


@given(count=st.integers(1, 60), size=st.integers(1, 20), epoch=st.integers(1, 9), ahead=st.integers(0, 3))
def test_an_epoch_has_every_picture_once_with_its_own_label(count: int, size: int, epoch: int, ahead: int) -> None:
    made = batches(count, batch_size=size, seed=3, ahead=ahead)
    seen = list(made.stream(epoch, lambda batch: batch))
    assert len(seen) == made.steps
    assert sorted(np.concatenate([batch.items for batch in seen])) == list(range(count))
    for batch in seen:
        assert batch.y.tolist() == (batch.items % 4).tolist()
        assert batch.x[:, 0].tolist() == batch.items.tolist()


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert collect(batches(seed=1), 2) == collect(batches(seed=1), 2)
    assert collect(batches(seed=1), 2) != collect(batches(seed=1), 3)
    assert collect(batches(seed=1), 2) != collect(batches(seed=2), 2)
    assert next(items for items, _, _ in collect(batches(shuffle=False), 9)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_an_epoch_that_goes_on_in_the_middle_is_the_rest_of_the_whole(ahead: int) -> None:
    whole = collect(batches(seed=1), 4)
    for start in range(6):
        assert collect(batches(seed=1, ahead=ahead), 4, start) == whole[start:]
    one = batches(seed=1).batch(4, 3)
    assert (one.items.tolist(), one.x[:, 0].tolist(), one.step) == whole[3]


def test_variants_of_a_picture_are_drawn_anew_for_each_epoch() -> None:
    made = batches(40, variants=3, seed=1)
    drawn = {epoch: np.concatenate([x for _, x, _ in collect(made, epoch)]) for epoch in (1, 2)}
    items = {epoch: np.concatenate([items for items, _, _ in collect(made, epoch)]) for epoch in (1, 2)}
    for epoch in (1, 2):
        assert (drawn[epoch] % 40).tolist() == items[epoch].tolist()
        assert set(drawn[epoch] // 40) == {0, 1, 2}
    assert made.rows(1).tolist() != made.rows(2).tolist()
    assert made.rows(1).tolist() == batches(40, variants=3, seed=1).rows(1).tolist()


class Broken:
    """Pictures of which one cannot be read."""

    def __len__(self) -> int:
        return 10

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if 7 in rows:
            raise OSError("the disk is gone")
        return rows[:, None].astype(np.float32)


def test_what_the_reading_thread_meets_is_raised_where_its_batch_would_come() -> None:
    stream = Batches(Broken(), np.zeros(10, np.int64), 2, shuffle=False).stream(1, lambda batch: batch.step)
    seen: list[int] = []
    with pytest.raises(OSError, match="disk is gone"):
        seen.extend(stream)
    assert seen == [0, 1, 2]
    assert not reading_threads()


def test_the_reading_thread_ends_with_the_stream() -> None:
    names: list[str] = []

    def note(batch: Batch) -> int:
        names.append(threading.current_thread().name)
        return batch.step

    stream = batches(ahead=2).stream(1, note)
    assert [next(stream), next(stream)] == [0, 1]
    assert reading_threads()
    assert all(name.startswith("batches") for name in names)
    stream.close()
    assert not reading_threads()
    assert len(names) <= 4, "it reads no further ahead than it was told"


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_pictures_that_do_not_fit_their_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 row"):
        Batches(ArrayPictures(np.zeros((4, 1))), np.zeros(4, np.int64), 2, variants=2)
    with pytest.raises(ValueError, match="at least one label"):
        Batches(ArrayPictures(np.zeros((0, 1))), np.zeros(0, np.int64), 2)
