"""The loop: what a run remembers when it is killed, and that it trains as Keras does."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.children import CODE, Child, bare_environment

# The names of loop_child.CHECKS; that file imports TensorFlow.
CHECKS = (
    "the_same_seed_gives_the_same_run",
    "a_run_killed_anywhere_ends_the_same",
    "a_run_killed_between_two_phases_ends_the_same",
    "a_paused_run_goes_on_at_its_step",
    "a_stopped_run_keeps_its_best",
    "a_full_disk_is_waited_out",
    "the_best_epoch_is_loaded",
    "the_loop_does_what_fit_does",
    "the_best_of_the_first_phase_is_not_forgotten",
    "a_plateau_lowers_the_rate",
    "a_loss_that_is_no_number_ends_the_run",
    "without_validation_the_training_is_monitored",
    "a_finished_run_goes_on_with_more_epochs",
    "a_checkpoint_of_something_else_is_refused",
    "what_cannot_learn_is_refused",
    "progress_is_told",
    "a_phase_begins_with_random_states_of_its_own",
    "plateau_and_patience_do_what_keras_does",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    home = tmp_path_factory.mktemp("loop")
    child = Child("tests.models.training.loop_child", home, bare_environment(home), 200)
    return child.ask({"folder": str(home / "runs")})


@pytest.mark.parametrize("check", CHECKS)
def test_the_loop_keeps_its_promise(found: Mapping[str, Any], check: str) -> None:
    assert found[check] == "", found[check]


def test_every_check_of_the_child_is_asked_for(found: Mapping[str, Any]) -> None:
    assert set(found) == set(CHECKS)


@pytest.mark.slow
@pytest.mark.long
def test_a_run_killed_with_kill_9_ends_as_the_one_that_was_left_alone(tmp_path: Path) -> None:
    """Real processes, real kills at random steps; a failure names its seed, with which it can be had again."""
    seed = random.SystemRandom().randrange(10**6)
    kills = random.Random(seed)
    alone = attempt(tmp_path, "alone", kill_after=None)
    ended = None
    for kill_after in [kills.randint(2, 25), kills.randint(2, 25), None]:
        ended = attempt(tmp_path, "killed", kill_after)
    assert alone is not None
    assert ended == alone, f"kills by seed {seed}"


def attempt(folder: Path, name: str, kill_after: int | None) -> dict[str, Any] | None:
    """One process that goes on from the run's pointer; killed when it has told so many steps."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.models.training.killed_child", str(folder / name)],
        env={**bare_environment(folder), "PYTHONPATH": str(CODE), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
    )
    answer = None
    with process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, 1):
            if number == kill_after:
                os.kill(process.pid, 9)
            if line.startswith("{"):
                answer = json.loads(line)
    assert (answer is None) == (kill_after is not None)
    assert process.returncode == (-9 if kill_after else 0)
    return answer
