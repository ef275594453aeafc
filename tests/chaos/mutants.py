"""The doses of damaged pictures: the decoder front alone, then real jobs of the real program.

python -m tests.chaos.mutants --count 100000
python -m tests.chaos.mutants --seed 7 --only 4711 --out F   writes one of them to a file, to look at it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.mutant_front import run_front
from tests.chaos.mutant_jobs import IN_ONE_JOB, run_jobs
from tests.chaos.originals import originals
from tests.chaos.series import Mutants, shared_folder


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="how many mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first one's number, to go on where a run stopped")
    parser.add_argument("--in-one-job", type=int, default=IN_ONE_JOB, help="how many lie on the disk at once")
    parser.add_argument("--skip-front", action="store_true", help="only the jobs")
    parser.add_argument("--skip-jobs", action="store_true", help="only the decoder front")
    parser.add_argument("--inputs", action="store_true", help="manifests, archives, recipes and model files instead")
    parser.add_argument("--only", type=int, help="write this one to --out and end")
    parser.add_argument("--out", type=Path, default=Path("mutant"))
    chosen = parser.parse_args(arguments)
    if chosen.only is not None:
        mutant = Mutants(chosen.seed, originals(shared_folder()))[chosen.only]
        chosen.out.write_bytes(mutant.data)
        sys.stdout.write(f"{chosen.out}: {mutant.name}, {len(mutant.data):,} bytes, by {', '.join(mutant.ways)}\n")
        return 0
    return _doses(chosen)


def _doses(chosen: argparse.Namespace) -> int:
    numbers = range(chosen.first, chosen.first + chosen.count)
    if chosen.inputs:
        inputs = run_front(chosen.seed, numbers, tell=sys.stderr.write, module="tests.chaos.input_front")
        sys.stdout.write(inputs.report() + "\n")
        return 0 if inputs.good else 1
    good = True
    if not chosen.skip_front:
        front = run_front(chosen.seed, numbers, tell=sys.stderr.write)
        sys.stdout.write(front.report() + "\n")
        good = front.good and not front.grows
    if not chosen.skip_jobs:
        jobs = run_jobs(chosen.seed, numbers, chosen.in_one_job, tell=sys.stderr.write)
        sys.stdout.write(jobs.report() + "\n")
        good = good and jobs.good and not jobs.grows
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
