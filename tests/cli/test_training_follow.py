"""What a person reads of a training, from fixed rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.desk_local import LocalDesk
from cli.training_follow import PLAIN_S, Lines, Look, follow_training
from cli.training_summary import headline
from cli.training_text import best_so_far, epoch_line, how_far
from store import jobs, runs
from store.database import Database
from store.run_rows import EpochRow, RunRow
from tests.cli.histories import History, accept_run, claim_run, epoch, finished_run


@pytest.fixture
def run(home_database: Database) -> RunRow:
    accept_run(home_database, History())
    return replace(runs.find_run(home_database, 1), state="running", epochs_planned=10)


def row(number: int, **changes: Any) -> EpochRow:
    facts = EpochRow(
        run_id=1, epoch=number, attempt=1, restarted=False, phase="head", loss=0.5, accuracy=0.8125, top5=1.0,
        val_loss=0.25, val_accuracy=0.9, val_top5=1.0, learning_rate=0.001, images_per_s=1234.5, seconds=1.0,
        is_best=True, patience_left=None, metrics={},
    )  # fmt: skip
    return replace(facts, **changes)


def test_an_epoch_is_one_line_with_all_that_was_measured(run: RunRow) -> None:
    assert epoch_line(run, row(3, patience_left=2), best=True) == (
        "run 1 · epoch 3/10 · loss 0.5000 · accuracy 0.8125 · val loss 0.2500 · val accuracy 0.9000 · 1,234 img/s"
        " · patience 2 · best"
    )
    bare = row(4, val_loss=None, val_accuracy=None, images_per_s=None, is_best=False, restarted=True)
    assert epoch_line(run, bare, best=False) == "run 1 · epoch 4/10 · loss 0.5000 · accuracy 0.8125 · after a restart"


def test_an_epoch_was_the_best_when_it_ended_even_if_a_later_one_is_better(run: RunRow) -> None:
    losses = (0.5, 0.6, 0.4, 0.39, 0.4, None)
    epochs = [row(n, val_loss=loss, is_best=n == 4) for n, loss in enumerate(losses, 1)]
    assert list(best_so_far(run, epochs)) == [True, False, True, True, False, False]
    careful = replace(run, recipe={**run.recipe, "stopping": {"min_delta": 0.05}})
    assert list(best_so_far(careful, epochs)) == [True, False, True, False, False, False]
    accurate = replace(run, monitor="val_accuracy")
    assert list(best_so_far(accurate, [row(1), row(2), row(3, val_accuracy=0.95)])) == [True, False, True]


def test_a_training_of_two_phases_names_them(run: RunRow) -> None:
    two = replace(run, recipe={**run.recipe, "mode": "two_phase"})
    assert "epoch 3/10 (head)" in epoch_line(two, row(3), best=True)


def test_each_stage_and_each_epoch_is_told_once(run: RunRow) -> None:
    lines = Lines()

    def told(stage: str, epochs: list[EpochRow], now: float = 0.0, **progress: Any) -> list[str]:
        return list(lines.of(Look(replace(run, stage=stage, progress=progress), epochs), now))

    assert told("reading", [], done=0, total=90) == ["run 1 · reading and checking the pictures"]
    assert told("reading", [], 1.0, done=30, total=90) == []
    assert told("reading", [], PLAIN_S, done=60, total=90) == ["run 1 · reading and checking the pictures · 60 of 90"]
    assert told("training", []) == []
    assert told("training", [row(1)])[0].startswith("run 1 · epoch 1/10 · ")
    assert told("training", [row(1)]) == []
    assert len(told("training", [row(1), row(2), row(3)])) == 2
    assert told("finishing", [row(1), row(2), row(3)]) == ["run 1 · saving and compiling the model"]
    assert told("finishing", [row(1), row(2), row(3)], 10 * PLAIN_S) == []


def test_an_epoch_that_is_run_again_after_a_restart_is_told_again(run: RunRow) -> None:
    lines, training = Lines(), replace(run, stage="training")
    assert len(list(lines.of(Look(training, [row(1)]), 0.0))) == 1  # one so far, in short
    assert len(list(lines.of(Look(training, [row(1), row(2)]), 0.0))) == 1
    again = list(lines.of(Look(training, [row(1), row(2, attempt=2, restarted=True)]), 0.0))
    assert len(again) == 1
    assert again[0].endswith("after a restart")


def test_who_joins_late_is_told_how_far_it_is(run: RunRow) -> None:
    look = Look(replace(run, stage="training"), [row(1, is_best=False), row(2), row(3, is_best=False)])
    assert list(Lines().of(look, 0.0)) == ["run 1 · 3 of 10 epochs so far, the best is 2"]


def test_the_bar_counts_epochs_with_their_steps(run: RunRow) -> None:
    progress = {"epoch": 4, "epochs": 10, "step": 5, "steps": 20, "loss": 0.5, "accuracy": 0.9}
    assert how_far(replace(run, stage="training", progress=progress)) == (3.25, 10, "epoch 4/10")
    features = replace(run, stage="features", progress={"done": 30, "total": 90})
    assert how_far(features) == (30, 90, "computing features, once")
    assert how_far(replace(run, stage="unheard of", progress={})) == (0, 0, "unheard of")


def test_a_long_stage_goes_on_saying_how_fast_and_how_long(run: RunRow) -> None:
    lines = Lines()
    now = {
        "epoch": 4,
        "epochs": 10,
        "step": 5,
        "steps": 20,
        "loss": 0.5,
        "accuracy": 0.9,
        "images_per_s": 99.6,
        "eta_s": 61,
    }
    look = Look(replace(run, stage="training", progress=now), [row(3, patience_left=2)])
    list(lines.of(look, 0.0))
    assert list(lines.of(look, PLAIN_S)) == [
        "run 1 · epoch 4/10 · loss 0.5000 · accuracy 0.9000 · 100 img/s · 1:01 left · patience 2"
    ]


def test_following_ends_with_the_job_and_calls_the_check(
    home_database: Database, desk: LocalDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = accept_run(home_database, History())
    lease = claim_run(home_database)
    steps = iter(range(1, 4))

    def check() -> None:
        number = next(steps, None)
        if number is None:
            jobs.pause(home_database, job_id)
        else:
            runs.add_epoch(home_database, lease, epoch(number, 1 / number, best=True))

    assert follow_training(desk, job_id, check).state == "paused"
    told = [line for line in capsys.readouterr().err.splitlines() if "epoch " in line]
    assert [line.split(" · ")[1] for line in told] == ["epoch 2/4", "epoch 3/4"]


def test_what_the_check_raises_ends_the_wait(home_database: Database, desk: LocalDesk) -> None:
    job_id = accept_run(home_database, History())

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow_training(desk, job_id, check)


def test_the_headline_tells_each_end(home_database: Database, tmp_path: Path) -> None:
    done = finished_run(home_database, History())
    assert headline(done).startswith(
        "Run 1 is done: finches@1 is ready. 3 of 4 epochs, the best is 2 (validation loss 0.4000)"
    )
    assert headline(replace(done, state="cancelled")).startswith("Run 1 was ended early: finches@1 is ready.")
    assert headline(replace(done, state="failed", model=None)).startswith("Run 1 of finches failed: 3 of 4 epochs")
    paused = replace(done, state="paused", model=None, finished_at=None, best_epoch=None)
    assert headline(paused) == "Run 1 of finches is paused: 3 of 4 epochs."
    running = replace(paused, state="running", stage="features")
    assert headline(running) == "Run 1 of finches is running: computing features, once; 3 of 4 epochs."
