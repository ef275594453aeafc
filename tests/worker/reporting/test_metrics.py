"""Metrics agree with scikit-learn, with what can be counted by hand, and with themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from tests.worker.reporting.conftest import MakePredictions
from worker.reporting.metrics import Prediction, evaluate

LABELS = ("ant", "bee", "cat", "dog")
ROWS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.floats(0, 1)), min_size=1, max_size=60)


def _rows(drawn: list[tuple[str, str, float]]) -> list[Prediction]:
    return [Prediction(f"{place}.jpg", *row, (row[1],), place) for place, row in enumerate(drawn)]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_scores_are_those_of_scikit_learn(drawn: list[tuple[str, str, float]]) -> None:
    found = evaluate(_rows(drawn), LABELS)
    true, guess = [row[0] for row in drawn], [row[1] for row in drawn]
    assert found.accuracy == theirs.accuracy_score(true, guess)
    np.testing.assert_array_equal(found.counts, theirs.confusion_matrix(true, guess, labels=LABELS))
    for averages, way in ((found.macro, "macro"), (found.weighted, "weighted")):
        expected: Any = theirs.precision_recall_fscore_support(true, guess, average=way, zero_division=0.0)
        assert (averages.precision, averages.recall, averages.f1) == pytest.approx(expected[:3])


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_every_image_is_counted_once_wherever_it_is_counted(drawn: list[tuple[str, str, float]]) -> None:
    found = evaluate(_rows(drawn), LABELS)
    assert found.counts.sum() == sum(one.images for one in found.calibration) == len(drawn)
    assert sum(row.support for row in found.classes) == sum(row.predicted for row in found.classes) == len(drawn)
    assert len(found.mistakes) + found.correct == len(drawn)
    rows = found.normalised.sum(axis=1)
    assert all(math.isclose(total, 1.0) or total == 0.0 for total in rows)
    assert 0.0 <= found.ece <= 1.0


def test_a_class_without_images_or_answers_has_undefined_scores_and_does_not_weigh_on_the_averages() -> None:
    found = evaluate(_rows([("ant", "ant", 0.9), ("bee", "ant", 0.8)]), LABELS)
    ant, bee, cat, _ = found.classes
    assert (ant.precision, ant.recall) == (0.5, 1.0)
    assert (bee.precision, bee.recall, bee.f1) == (None, 0.0, 0.0)
    assert (cat.precision, cat.recall, cat.f1) == (None, None, None)
    assert found.macro.recall == 0.5  # of the two classes that occur


def test_a_true_label_that_the_model_does_not_know_is_a_mistake_with_a_row_of_its_own() -> None:
    found = evaluate(_rows([("ant", "ant", 0.9), ("yak", "ant", 0.8)]), ("ant", "bee"))
    assert found.labels == ("ant", "bee", "yak")
    assert found.accuracy == 0.5
    assert found.counts[2, 0] == 1


def test_top_5_looks_at_as_many_answers_as_were_stored() -> None:
    stored = ("b", "c", "a")
    rows = [Prediction("1", "a", "b", 0.5, stored), Prediction("2", "z", "b", 0.5, stored)]
    found = evaluate(rows, ("a", "b", "c", "z"))
    assert (found.k, found.accuracy, found.top5) == (3, 0.0, 0.5)
    sixth = Prediction("3", "f", "a", 0.5, ("a", "b", "c", "d", "e", "f"))
    assert evaluate([sixth], "abcdef").top5 == 0.0


def test_calibration_is_the_mean_gap_between_score_and_truth() -> None:
    # Four images at 0.95, three of them right; one at exactly 1, right: |4/5 · (0.96 - 0.8)|.
    drawn = [("ant", "ant", 0.95)] * 3 + [("bee", "ant", 0.95), ("ant", "ant", 1.0)]
    found = evaluate(_rows(drawn), LABELS)
    assert found.calibration[-1].images == 5
    assert found.ece == pytest.approx(0.96 - 0.8)


def test_suspects_are_mistakes_as_confident_as_right_answers_of_that_class_are() -> None:
    drawn = [("ant", "ant", 0.9), ("ant", "ant", 0.8), ("bee", "ant", 0.86), ("bee", "ant", 0.84), ("ant", "bee", 1.0)]
    found = evaluate(_rows(drawn), LABELS)
    # ant is right with 0.85 on average; bee never is, so that nothing speaks for the last answer.
    assert [one.path for one in found.suspects] == ["2.jpg"]
    assert [one.path for one in found.mistakes] == ["4.jpg", "2.jpg", "3.jpg"]


def test_the_worst_pairs_come_first_with_their_part_of_the_true_class() -> None:
    drawn = [("ant", "bee", 0.5)] * 2 + [("ant", "ant", 0.5)] * 2 + [("bee", "cat", 0.5)]
    first, second = evaluate(_rows(drawn), LABELS).worst_pairs()
    assert (first.true, first.predicted, first.images, first.share) == ("ant", "bee", 2, 0.5)
    assert (second.images, second.share) == (1, 1.0)


def test_the_order_of_the_images_changes_nothing(make_predictions: MakePredictions) -> None:
    rows = make_predictions(LABELS, 200)
    assert evaluate(rows, LABELS).mistakes == evaluate(rows[::-1], LABELS).mistakes


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(ValueError, match="at least one labelled image"):
        evaluate([], LABELS)
