from dataclasses import replace
from pathlib import Path

import pytest

from models.card import CardFacts, ClassFacts, EvaluationFacts, TrainingFacts, card_text, retitle_card, write_card
from models.manifest import Manifest, ModelVersion, Preprocessing

TRAINING = TrainingFacts("7", {"train": 340, "val": 60, "test": 0}, "head on base@1", 10, 8, "val_loss", 0.04321, 12.4)


@pytest.fixture
def version(tmp_path: Path) -> ModelVersion:
    manifest = Manifest("pets", 2, Preprocessing(), "probabilities", 2, "2026-01-01", lineage={"base": "base@1"})
    return ModelVersion(tmp_path, manifest, ("cat", "dog"))


def evaluation(*classes: ClassFacts) -> EvaluationFacts:
    return EvaluationFacts("test", 150, 0.98, 1.0, classes)


def test_a_card_without_facts_says_what_the_manifest_knows_and_judges_nothing(version: ModelVersion) -> None:
    write_card(version)
    text = (version.path / "card.md").read_text()
    assert text.startswith("# pets\n\n- trained on: base@1, 2026-01-01\n")
    assert "cat; dog" in text
    assert "Limits" not in text


def test_a_card_tells_the_training_and_that_nothing_was_evaluated_yet(version: ModelVersion) -> None:
    text = card_text(version, CardFacts(TRAINING))
    assert "- run: 7, 12 s" in text
    assert "- pictures: 340 train, 60 val\n" in text
    assert "- epochs: 10; kept is the best, 8 (val_loss 0.04321)" in text
    assert "It has not been evaluated" in text


def test_a_card_tells_the_evaluation_by_class_and_names_the_weakest(version: ModelVersion) -> None:
    rows = ClassFacts("cat", 75, 1.0, 0.96, 0.98), ClassFacts("dog", 20, 0.96, 1.0, 0.98)
    text = card_text(version, CardFacts(TRAINING, evaluation(*rows)))
    assert "150 pictures (test) that it was not trained on: accuracy 0.980.\n" in text
    assert "| cat | 75 | 1.000 | 0.960 | 0.980 |" in text
    assert "misses most is cat: 96% of its pictures" in text
    assert "1 of 2 classes were evaluated on fewer than 30 pictures" in text
    assert "It has not been evaluated" not in text


def test_a_label_cannot_break_the_table(version: ModelVersion) -> None:
    text = card_text(version, CardFacts(None, evaluation(ClassFacts("a|b\nc", 40, 0.5, 0.5, 0.5))))
    assert "| a\\|b c | 40 |" in text


def test_of_a_thousand_classes_the_weakest_are_shown(version: ModelVersion) -> None:
    rows = [ClassFacts(f"class {n}", 50, 0.9, n / 1000, n / 1000) for n in range(1000)]
    text = card_text(replace(version, labels=tuple(row.label for row in rows)), CardFacts(None, evaluation(*rows)))
    assert "The 20 weakest of 1000 classes:" in text
    assert "| class 19 |" in text
    assert "| class 20 |" not in text
    assert "top-5 accuracy 1.000" in text


def test_what_a_person_wrote_of_use_and_limits_stands_instead_of_ours(version: ModelVersion) -> None:
    text = card_text(version, CardFacts(intended_use="Only my own pets.", limits="No tigers."))
    assert "## Intended use\n\nOnly my own pets.\n\n## Limits\n\nNo tigers.\n\n## Classes" in text


@pytest.mark.parametrize("text", ["# birds\n\nkept\n", "\nkept\n"])
def test_a_card_from_elsewhere_takes_the_name_that_the_model_has_here(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.md").write_text(text)
    retitle_card(tmp_path / "card.md", "wings")
    assert (tmp_path / "card.md").read_text() == "# wings\n\nkept\n"
    retitle_card(tmp_path / "absent.md", "wings")
    assert not (tmp_path / "absent.md").exists()
