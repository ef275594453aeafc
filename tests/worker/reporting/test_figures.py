"""Figures are the same for the same numbers, take any name, follow light and dark, and leave Matplotlib as it was."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from tests.worker.reporting.conftest import MakeEpochs, MakePredictions
from worker.reporting import figures
from worker.reporting.drawing import PALETTE, to_svg
from worker.reporting.matrix import ALL_SHOWN, MOST_SHOWN, choose_shown
from worker.reporting.metrics import evaluate

HOSTILE = ["<b onclick=x>", "a$b$ & 'c'", "鳥", "tab\tand\x1bescape", "x" * 200, "\ud800", "$\\frac{"]


def _texts(path: Path) -> str:
    root = ET.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - our own figure
    return "\n".join("".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text"))


def test_the_curve_is_written_in_both_formats_and_says_what_happened(make_epochs: MakeEpochs, tmp_path: Path) -> None:
    epochs = make_epochs(30, second=20, best=25)
    svg = figures.curve(epochs, [7], tmp_path / "c.svg", "birds@3")
    told = _texts(svg)
    for word in ("birds@3", "Loss", "Accuracy", "validation", "training", "↻", "all layers", "epoch 25: "):
        assert word in told
    with Image.open(figures.curve(epochs, [7], tmp_path / "c.png")) as png:
        assert png.width > 1000
    assert "↻" not in _texts(figures.curve(epochs, [], svg))


def test_one_epoch_and_one_without_validation_are_drawn(make_epochs: MakeEpochs, tmp_path: Path) -> None:
    figures.curve(make_epochs(1), [1], tmp_path / "one.png")
    figures.curve(make_epochs(3, measured=False), [], tmp_path / "two.svg")
    assert "validation" not in _texts(tmp_path / "two.svg")


def test_no_epochs_and_unknown_formats_are_refused(make_epochs: MakeEpochs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one finished epoch"):
        figures.curve([], [], tmp_path / "c.svg")
    with pytest.raises(ValueError, match=r"\.svg or \.png, got 'c\.pdf'"):
        figures.curve(make_epochs(2), [], tmp_path / "c.pdf")


@pytest.mark.parametrize("count", [2, 20, ALL_SHOWN, 200])
def test_the_matrix_is_drawn_for_any_number_of_classes(
    make_predictions: MakePredictions, tmp_path: Path, count: int
) -> None:
    labels = [f"class {index}" for index in range(count)]
    found = evaluate(make_predictions(labels, count * 12), labels)
    told = _texts(figures.confusion(found, tmp_path / "m.svg"))
    assert ("all others" in told) == (count > ALL_SHOWN)


def test_a_large_matrix_shows_the_most_confused_and_forgets_no_image(make_predictions: MakePredictions) -> None:
    labels = [f"class {index}" for index in range(100)]
    found = evaluate(make_predictions(labels, 3000), labels)
    shown = choose_shown(found)
    assert len(shown.names) == MOST_SHOWN + 1
    assert sum(shown.cells.values()) == sum(shown.totals) == 3000
    for pair in found.worst_pairs(10):
        assert pair.true in shown.names
        assert pair.predicted in shown.names


def test_any_label_is_drawn_as_it_is(make_predictions: MakePredictions, tmp_path: Path) -> None:
    found = evaluate(make_predictions(HOSTILE, 200), HOSTILE)
    told = _texts(figures.confusion(found, tmp_path / "m.svg", normalised=False))
    for name in ("<b onclick=x>", "a$b$ & 'c'", "鳥", "tab\ufffdand\ufffdescape", "$\\frac{"):
        assert name in told
    figures.confusion(found, tmp_path / "m.png")


def test_an_svg_has_no_date_and_is_the_same_for_the_same_numbers(make_epochs: MakeEpochs, tmp_path: Path) -> None:
    one = figures.curve(make_epochs(9), [3], tmp_path / "1.svg").read_bytes()
    assert one == figures.curve(make_epochs(9), [3], tmp_path / "2.svg").read_bytes()
    assert one != figures.curve(make_epochs(9), [4], tmp_path / "2.svg").read_bytes()
    assert b"metadata" not in one


def test_every_colour_of_an_svg_has_a_light_and_a_dark_value(make_predictions: MakePredictions) -> None:
    found = evaluate(make_predictions(["a", "b", "c"], 90), ["a", "b", "c"])
    for figure in (figures.confusion_figure(found), figures.calibration_figure(found)):
        svg = to_svg(figure, standalone=False)
        colours = {part[:7] for part in svg.split(": ") if part.startswith("#")}
        assert colours <= {"#000000"}  # invisible clip paths and the like
        assert "var(--blue)" in svg
        assert "prefers-color-scheme: dark" in to_svg(figure)
    assert len({light for light, _ in PALETTE.values()}) == len(PALETTE)


def test_matplotlib_is_left_as_it_was_and_pyplot_is_never_imported(make_epochs: MakeEpochs, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figures.curve(make_epochs(4), [], tmp_path / "c.svg")
    assert dict(mpl.rcParams) == before
    code = "import sys, worker.reporting.page; print('matplotlib.pyplot' in sys.modules, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
