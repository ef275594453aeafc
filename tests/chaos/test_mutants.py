"""Bar: mutated pictures crash nothing, hang nothing, cost no memory, and each becomes a row. A dose; the whole by hand:

`python -m tests.chaos.mutants --count 100000`.
"""

import random
from collections import Counter
from itertools import islice

import pytest

from models.formats import SUPPORTED, sniff
from models.images import load_picture
from models.manifest import Preprocessing
from tests.chaos import odd_front
from tests.chaos.mutant_front import MOST_GROWTH_KIB, Front, run_front
from tests.chaos.mutant_jobs import Jobs, run_jobs
from tests.chaos.mutations import ANY, SURGERY, splice, swap_header
from tests.chaos.originals import originals
from tests.chaos.series import Mutants

SEED = 20261122
FRONT_DOSE, JOB_DOSE = 2500, 400

# Pillow says in warnings what is odd about a file; the product ignores them once, for the process.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def test_the_originals_are_whole_pictures_of_every_format() -> None:
    whole = originals()
    unreadable = {"grey_32.tif", "lab.tif"}  # kinds that are refused; their mutants go other ways than the rest
    for name, data in whole.items():
        if name not in unreadable:
            load_picture(data, Preprocessing())
    assert {sniff(data) for data in whole.values()} == set(SUPPORTED)
    assert len(whole) > 60


def test_a_mutant_is_decided_by_its_seed_and_number() -> None:
    whole = originals()
    first, second, other = (
        Mutants(SEED, whole),
        Mutants(SEED, dict(sorted(whole.items(), reverse=True))),
        Mutants(SEED + 1, whole),
    )
    assert [first[number] for number in range(50)] == [second[number] for number in range(50)]
    assert [first[number].data for number in range(50)] != [other[number].data for number in range(50)]


def test_all_ways_of_damage_are_used_and_most_mutants_are_new() -> None:
    whole = originals()
    found = [Mutants(SEED, whole)[number] for number in range(1500)]
    ways = Counter(way for mutant in found for way in mutant.ways)
    assert ways.keys() == {way.__name__ for way in (*ANY, *SURGERY.values(), splice, swap_header)}
    assert {mutant.name.split(".", 1)[1] for mutant in found} == set(whole)
    changed = sum(mutant.data != whole[mutant.name.split(".", 1)[1]] for mutant in found)
    assert changed > 0.95 * len(found)


@pytest.mark.slow
def test_mutants_cost_the_decoder_front_a_code_and_nothing_else() -> None:
    front = run_front(SEED, range(FRONT_DOSE))
    assert front.good, front.report()
    assert front.count == FRONT_DOSE
    assert not front.grows, front.report()
    assert {"ok", "corrupt", "truncated", "unsupported", "not_image", "too_many_pixels"} <= set(front.codes)


def test_a_crash_a_hang_another_error_and_an_unknown_code_are_seen() -> None:
    front = run_front(SEED, range(14), limit_s=8, module="tests.chaos.odd_front")
    assert front.count == 14
    odd = dict(front.odd)
    assert odd.keys() == {
        odd_front.DIES, odd_front.HANGS, odd_front.RAISES, odd_front.INVENTS, odd_front.CHATTERS
    }, front.report()  # fmt: skip
    assert "(-11)" in odd[odd_front.DIES]
    assert "no answer within 8 s" in odd[odd_front.HANGS]
    assert "KeyError" in odd[odd_front.RAISES]
    assert "'invented' is no code" in odd[odd_front.INVENTS]
    assert "no message for a person" in odd[odd_front.CHATTERS]


def test_a_memory_that_grows_is_measured() -> None:
    front = Front(SEED, memory=[(at, 100_000 + 5 * at) for at in range(0, 4000, 100)])
    assert front.growth_kib() == pytest.approx(5000)
    flat = Front(SEED, memory=[(at, 100_000 + 500 * (at % 300)) for at in range(0, 4000, 100)])
    assert abs(flat.growth_kib()) < MOST_GROWTH_KIB


@pytest.mark.parametrize(("bytes_each", "found"), [(0, False), (512, True)])
def test_half_a_kilobyte_of_each_mutant_is_a_growth_in_a_long_run(bytes_each: int, found: bool) -> None:
    dice = random.Random(SEED)
    up_and_down = [(at, 60_000 + dice.randrange(50_000) + bytes_each * at // 1024) for at in range(0, 20_000, 100)]
    assert Front(SEED, memory=up_and_down, codes=Counter(ok=20_000)).grows is found
    assert not Front(SEED, memory=up_and_down, codes=Counter(ok=2000)).grows
    resting = [(at, 200_000 + dice.randrange(40_000) + bytes_each * at // 1024) for at in range(0, 100_000, 2000)]
    assert Jobs(SEED, files=100_000, resting=resting).grows is found


@pytest.mark.slow
def test_mutants_as_a_real_job_are_rows_and_the_worker_lives_on() -> None:
    jobs = run_jobs(SEED, range(JOB_DOSE), in_one_job=JOB_DOSE // 2)
    assert jobs.good, jobs.report()
    assert jobs.rows == jobs.files == JOB_DOSE
    assert len(list(islice(jobs.codes, 4))) == 4, jobs.report()
