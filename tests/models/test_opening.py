"""What is found in a model file. All kinds are built and looked at in one child process: Keras takes long to start."""

from pathlib import Path
from typing import Any

import pytest

from models.archive_check import check_archive
from models.children import Child, bare_environment

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    folder = tmp_path_factory.mktemp("zoo")
    found = Child("tests.models.keras_zoo", folder, bare_environment(folder), 200.0).ask({"folder": str(folder)})
    return folder, found


@pytest.fixture
def found(zoo: tuple[Path, Found]) -> Found:
    return zoo[1]


def test_everything_that_keras_itself_writes_passes_the_static_checks(zoo: tuple[Path, Found]) -> None:
    files = sorted(zoo[0].glob("*.keras"))
    assert len(files) == len(zoo[1])
    for file in files:
        check_archive(file)


@pytest.mark.parametrize(
    ("kind", "picture", "classes", "output"),
    [
        ("softmax", [40, 32, 3], 10, "probabilities"),
        ("logits", [28, 28, 1], 5, "logits"),
        ("sigmoid", [32, 32, 3], 5, "probabilities"),
        ("softmax layer", [32, 32, 3], 5, "probabilities"),
        ("nested", [32, 32, 3], 4, "probabilities"),
        ("ends in a model", [32, 32, 3], 4, "probabilities"),
        ("normalised by hand", [32, 32, 3], 4, "probabilities"),
        ("flip and offset", [32, 32, 3], 3, "probabilities"),
        ("not for OpenVINO", [16, 16, 1], 3, "probabilities"),
        ("any size", [24, 16, 3], 5, "probabilities"),
        ("no rescaling", [32, 32, 3], 5, "probabilities"),
        ("sequential", [16, 16, 3], 3, "probabilities"),
        ("lists of one", [32, 32, 3], 4, "probabilities"),
    ],
)
def test_input_classes_and_kind_of_answer_are_found(
    found: Found, kind: str, picture: list[int], classes: int, output: str
) -> None:
    assert (found[kind]["input"], found[kind]["classes"], found[kind]["output"]) == (picture, classes, output)
    if kind != "sigmoid":
        assert found[kind]["sums"] == pytest.approx([1, 1], abs=1e-5)


def test_a_model_for_any_size_is_registered_for_one(found: Found) -> None:
    assert found["any size"]["fixed"] == [16, 24, 3]


def test_a_rescaling_inside_is_seen_also_in_a_model_within_the_model(found: Found) -> None:
    assert found["nested"]["rescaled"]
    assert found["flip and offset"]["rescaled"]
    assert not found["no rescaling"]["rescaled"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("any size, unsaid", ["(any, 20, 3)", "--size 224"]),
        ("another size", ["32×32 only", "--size said 48×48"]),
        ("two inputs", ["one input", "has 2", "left", "(32, 32, 3)"]),
        ("two outputs", ["one output", "has 2"]),
        ("vector", ["(10)", "(height, width, channels)"]),
        ("channels first", ["channels-first", "(3, 32, 32)"]),
        ("five channels", ["(32, 32, 5)", "3 channels"]),
        ("features only", ["one score per class", "(30, 30, 4)", "Dense"]),
        ("single output", ["single output", "Dense(2, activation='softmax')"]),
        ("broken weights", ["NaN"]),
    ],
)
def test_what_is_no_classifier_of_pictures_is_refused_in_words(found: Found, kind: str, words: list[str]) -> None:
    for word in words:
        assert word in found[kind]["refused"]
