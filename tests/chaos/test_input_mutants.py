"""Mutated manifests, archives, recipes and model files: only errors that the documents name come out.

A dose; more by hand: `python -m tests.chaos.mutants --inputs --count 20000`.
"""

import pytest

from models.errors import InvalidModel
from tests.chaos.input_front import Reading, examine, kinds, mutant
from tests.chaos.mutant_front import run_front

SEED = 20261122
DOSE = 910
MOST_GROWTH_KIB = 20_000  # per 1,000; caches of libraries fill at the beginning


@pytest.mark.slow
def test_mutated_inputs_cost_a_refusal_and_nothing_else() -> None:
    front = run_front(SEED, range(DOSE), module="tests.chaos.input_front")
    assert front.good, front.report()
    assert front.count == DOSE
    assert front.growth_kib() < MOST_GROWTH_KIB, front.report()
    assert {code.split()[0] for code in front.codes} == {*kinds(), "sandboxed"}
    assert front.codes["sandboxed ok"] > 0, front.report()  # one that Keras opened


def test_an_input_mutant_is_decided_by_its_seed_and_number() -> None:
    known = kinds()
    assert [mutant(1, number, known) for number in range(26)] == [mutant(1, number, known) for number in range(26)]
    assert mutant(1, 4, known) != mutant(2, 4, known)


def test_an_error_that_no_document_names_is_seen_with_its_place() -> None:
    def fails(_path: object) -> None:
        raise AttributeError("nobody expected this")

    def chatters(_path: object) -> None:
        raise InvalidModel("Traceback (most recent call last)")

    code, odd = examine("csv", Reading(".csv", [], fails), b"")
    assert (code, odd is not None and "AttributeError: nobody expected this" in odd) == ("csv unforeseen", True)
    assert examine("csv", Reading(".csv", [], chatters), b"")[1] is not None
