"""What every engine must do, as functions that take a Subject: the conformance suite.

It imports no pytest, so that the same checks run in the process of a framework (keras_child.py) and in the test's
own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.engines.base import MAX_TOP_K, Batch, Engine, Indices, Scores
from models.errors import EngineError


@dataclass(frozen=True)
class Subject:
    """An engine under test, pictures for it, all different, and where it has a model, what Keras says of them."""

    make: Callable[[], Engine]
    images: Batch
    probabilities: NDArray[np.float32] | None = None
    tolerance: float = 1e-5  # of a probability, for the engine's arithmetic


Check = Callable[[Subject, Engine], None]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a function of the suite."""
    CHECKS[function.__name__] = function
    return function


def check_engine(engine: Engine, subject: Subject, name: str) -> None:
    """Run one check. The engine can serve for the next one too."""
    CHECKS[name](subject, engine)


@contextmanager
def refused() -> Iterator[None]:
    """Expect an EngineError."""
    said = ""
    try:
        yield
    except EngineError as error:
        said = str(error)
    assert said, "expected an EngineError that says why"


def close_to(got: tuple[Indices, Scores], expected: tuple[Indices, Scores]) -> None:
    """The same answer. One compiled shape gives the same bits; engines with several shapes may round differently."""
    np.testing.assert_allclose(got[1], expected[1], atol=1e-5)
    steps = np.diff(expected[1], axis=1, prepend=1, append=0) < -1e-5
    clear = steps[:, :-1] & steps[:, 1:]
    np.testing.assert_array_equal(got[0][clear], expected[0][clear])


def one_by_one(engine: Engine, images: Batch) -> tuple[Indices, Scores]:
    """Every picture alone."""
    parts = [engine.predict(images[at : at + 1]) for at in range(len(images))]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@check
def answers_have_the_agreed_shapes_and_types(subject: Subject, engine: Engine) -> None:
    k = min(len(engine.labels), MAX_TOP_K)
    for count in (1, 2, engine.batch_size - 1, engine.batch_size):
        indices, scores = engine.predict(subject.images[:count])
        assert (indices.shape, scores.shape) == ((count, k), (count, k))
        assert indices.dtype == np.dtype(np.int32)
        assert scores.dtype == np.dtype(np.float32)


@check
def the_best_class_comes_first_and_none_comes_twice(subject: Subject, engine: Engine) -> None:
    indices, scores = engine.predict(subject.images[: engine.batch_size])
    assert (np.diff(scores, axis=1) <= 0).all()
    assert ((indices >= 0) & (indices < len(engine.labels))).all()
    assert all(len(set(row)) == len(row) for row in indices.tolist())


@check
def scores_are_probabilities(subject: Subject, engine: Engine) -> None:
    _, scores = engine.predict(subject.images[: engine.batch_size])
    assert ((scores >= 0) & (scores <= 1)).all()
    sums = scores.sum(axis=1)
    assert (sums <= 1 + 1e-4).all()
    if len(engine.labels) <= MAX_TOP_K:
        np.testing.assert_allclose(sums, 1, atol=1e-4)


@check
def answers_are_those_of_the_model(subject: Subject, engine: Engine) -> None:
    if subject.probabilities is None:
        return
    for at in range(0, len(subject.images), engine.batch_size):
        expected = subject.probabilities[at : at + engine.batch_size]
        indices, scores = engine.predict(subject.images[at : at + engine.batch_size])
        np.testing.assert_allclose(scores, np.take_along_axis(expected, indices, 1), atol=subject.tolerance)
        np.testing.assert_allclose(scores[:, 0], expected.max(axis=1), atol=subject.tolerance)


@check
def pictures_that_differ_get_answers_that_differ(subject: Subject, engine: Engine) -> None:
    """Else the checks below could not see rows that are mixed up."""
    _, scores = engine.predict(subject.images[: engine.batch_size])
    assert len({row.tobytes() for row in scores}) == len(scores)


@check
def a_picture_gets_the_same_answer_alone_and_in_any_place_of_a_batch(subject: Subject, engine: Engine) -> None:
    images = subject.images[: engine.batch_size]
    alone = one_by_one(engine, images)
    close_to(engine.predict(images), alone)
    back = engine.predict(images[::-1])
    close_to((back[0][::-1], back[1][::-1]), alone)


@check
def what_a_batch_lacks_is_not_filled_with_the_batch_before(subject: Subject, engine: Engine) -> None:
    expected = one_by_one(engine, subject.images[:3])
    engine.predict(255 - subject.images[: engine.batch_size])
    close_to(engine.predict(subject.images[:3]), expected)


@check
def an_answer_stays_when_the_next_batch_is_computed(subject: Subject, engine: Engine) -> None:
    images = subject.images[: engine.batch_size].copy()
    indices, scores = engine.predict(images)
    kept = indices.copy(), scores.copy()
    images[:] = 0  # the caller reuses its buffer
    for _ in range(2 * engine.parallel):
        engine.predict(images)
    np.testing.assert_array_equal(indices, kept[0])
    np.testing.assert_array_equal(scores, kept[1])


@check
def any_layout_in_memory_will_do(subject: Subject, engine: Engine) -> None:
    images = subject.images[:4]
    expected = engine.predict(images)
    strided = np.zeros((8, *images.shape[1:]), np.uint8)
    strided[::2] = images
    frozen = images.copy()
    frozen.flags.writeable = False
    for same in (strided[::2], np.asfortranarray(images), frozen):
        close_to(engine.predict(same), expected)


@check
def rows_are_never_mixed_between_threads(subject: Subject, engine: Engine) -> None:
    """More threads than the engine asks for, batches of every size, each picture known by its answer."""
    expected = one_by_one(engine, subject.images)
    wrong: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(25):
            chosen = random.choice(len(subject.images), size=random.integers(1, engine.batch_size + 1), replace=False)
            got = engine.predict(subject.images[chosen])  # a new array, gone as soon as the call is over
            try:
                close_to(got, (expected[0][chosen], expected[1][chosen]))
            except AssertionError as error:
                wrong.append(str(error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2 * engine.parallel + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


@check
def wrong_batches_are_refused(subject: Subject, engine: Engine) -> None:
    images = subject.images[:2]
    too_many = np.repeat(images[:1], engine.batch_size + 1, axis=0)
    for batch in (images[:0], too_many, images.astype(np.float32), images[0]):
        with refused():
            engine.predict(batch)  # type: ignore[arg-type]  # float32 is what must be refused
    engine.predict(images)


@check
def a_closed_engine_refuses(subject: Subject, engine: Engine) -> None:
    closed = subject.make()
    closed.predict(subject.images[:1])
    closed.close()
    with refused():
        closed.predict(subject.images[:1])
    closed.close()
    engine.predict(subject.images[:1])  # another engine of the same model does not care


@check
def it_says_what_it_is(subject: Subject, engine: Engine) -> None:
    assert engine.name in ("fake", "keras", "openvino")
    assert engine.labels
    assert engine.batch_size >= 1
    assert engine.parallel >= 1
    assert engine.memory_bytes > 0
