"""A terminal's curve fits the terminal, and marks what happened."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.worker.reporting.conftest import MakeEpochs, MakePredictions
from worker.reporting import text
from worker.reporting.metrics import evaluate
from worker.reporting.rows import clean, shorten


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@pytest.mark.parametrize("count", [1, 2, 30, 500])
def test_the_curve_fits_the_width(make_epochs: MakeEpochs, count: int, width: int) -> None:
    restarts = range(1, count, 3)
    drawn = text.curve(make_epochs(count, second=count // 2), list(restarts), width)
    assert max(map(len, drawn.splitlines())) <= width
    assert "★" in drawn


def test_loss_and_accuracy_stand_side_by_side_where_there_is_room(make_epochs: MakeEpochs) -> None:
    assert any("loss" in line and "accuracy" in line for line in text.curve(make_epochs(9), width=120).splitlines()[:1])
    assert "accuracy" not in text.curve(make_epochs(9), width=99).splitlines()[0]


def test_restarts_phases_and_the_best_epoch_are_marked_and_explained(make_epochs: MakeEpochs) -> None:
    drawn = text.curve(make_epochs(30, second=20, best=25), [7, 19], 120)
    assert "┊ restarted at epoch 7, 19" in drawn
    assert "┃ all layers from epoch 20" in drawn
    assert "★ best: epoch 25 (val. loss" in drawn
    plain = text.curve(make_epochs(30), width=120)
    assert "┊" not in plain
    assert "┃" not in plain


def test_the_line_falls_when_the_loss_falls(make_epochs: MakeEpochs) -> None:
    lines = text.curve(make_epochs(20), width=80).splitlines()
    rows_of_line = [row for row, line in enumerate(lines[1:11]) if "─" in line.split("┤")[1]]
    assert rows_of_line[0] == 0
    assert lines[1].split("┤")[1].startswith("─")
    assert not lines[10].split("┤")[1].startswith("─")


def test_without_validation_the_dots_are_all_there_is(make_epochs: MakeEpochs) -> None:
    drawn = text.curve(make_epochs(12, measured=False))
    assert "·· training" in drawn
    assert "validation" not in drawn


def test_no_epoch_is_said() -> None:
    assert text.curve([]) == "No epoch is finished yet."


def test_a_loss_that_is_no_number_is_left_out(make_epochs: MakeEpochs) -> None:
    from dataclasses import replace

    lines = make_epochs(5)
    lines[2] = replace(lines[2], loss=float("nan"), val_loss=float("inf"))
    assert "nan" not in text.curve(lines)


def test_pairs_and_classes_are_told_the_worst_first(make_predictions: MakePredictions) -> None:
    found = evaluate(make_predictions(["cat", "dog", "a name that goes on and on and on and on"], 300), ["cat", "dog"])
    pairs = text.worst_pairs(found, width=60)
    assert max(map(len, pairs)) <= 60
    assert "→" in pairs[0]
    rows = text.class_rows(found)
    assert len(rows[0]) == len(text.CLASS_COLUMNS)
    assert [row[-1] for row in rows] == sorted(row[-1] for row in rows)
    assert text.headline(found).startswith(f"accuracy {found.accuracy:.4f} ({found.correct} of 300)")


def test_names_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\n\ud800\u202ec") == "a\ufffd[2Jb\ufffd\ufffd\ufffdc"
    assert clean("鳥 Müller") == "鳥 Müller"
    assert shorten("x" * 50, 10) == "xxxxxx…xxx"
    assert len(shorten("x" * 50, 1)) == 1


def test_the_command_line_draws_curves_without_numpy_matplotlib_or_scikit_learn() -> None:
    forbidden = {"numpy", "matplotlib", "sklearn", "PIL", "mlflow", "tensorboard"}
    code = f"import sys, worker.reporting.text; print(sorted(set(sys.modules) & {forbidden!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
