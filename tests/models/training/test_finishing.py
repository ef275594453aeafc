"""Versions made of trained models. Everything with Keras in it runs in one child process: Keras takes long to start."""

import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.children import Child, bare_environment
from models.conversion import read_version
from models.engines.openvino import OpenVINOEngine, Precision, choose_precision, import_openvino
from models.images import load_picture
from models.manifest import ModelVersion
from models.probe import answer
from models.training.features import extract, load_features
from models.training.grafting import Graft, grafted_graph

CHECKS = (
    "features_are_those_of_keras",
    "a_grafted_version_answers_as_keras_and_is_complete",
    "a_finished_version_is_what_the_registry_takes_and_holds_no_optimizer",
    "a_graft_that_answers_otherwise_gives_way_to_a_conversion",
    "a_convolution_as_head_is_cut_and_grafted",
    "features_that_openvino_folded_are_found_out",
    "a_trained_model_that_openvino_cannot_express_is_finished_without_a_compiled_form",
    "what_does_not_fit_is_refused",
)
Features = NDArray[np.float32]
Loader = Callable[[], tuple[Features, Features]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finishing")


@pytest.fixture(scope="module")
def report(small_models: Path, folder: Path, request: pytest.FixtureRequest) -> Mapping[str, str]:
    try:
        mobilenet = str(request.getfixturevalue("shared_data") / "mobilenet_v2_imagenet.keras")
    except pytest.skip.Exception:
        mobilenet = ""
    child = Child("tests.models.training.finishing_child", folder, bare_environment(folder), 200)
    return child.ask({"small": str(small_models), "folder": str(folder), "mobilenet": mobilenet})


@pytest.mark.parametrize("check", CHECKS)
def test_a_trained_model_becomes_a_version(report: Mapping[str, str], check: str) -> None:
    assert not report[check], report[check]


def test_no_check_is_forgotten(report: Mapping[str, str]) -> None:
    assert set(report) == set(CHECKS)


@pytest.fixture(scope="module")
def mobilenet(report: Mapping[str, str], folder: Path, shared_data: Path) -> ModelVersion:
    return read_version(folder / "mobilenet")


Pictures = list[tuple[int, NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def photographs(mobilenet: ModelVersion, shared_data: Path) -> tuple[Pictures, NDArray[np.int64], NDArray[np.bool_]]:
    """Numbered pixels, whether each is a dog, and whether it is for testing."""
    pixels, names = [], []
    with tarfile.open(shared_data / "cats_dogs.tar") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".jpg") else None
            if file is not None:
                pixels.append(load_picture(file.read(), mobilenet.manifest.preprocessing).pixels)
                names.append(member.name)
    dogs = np.array([int("/dogs/" in name) for name in names])
    return list(enumerate(pixels)), dogs, np.array(["/test/" in name for name in names])


def train(given: Features, classes: NDArray[np.int64]) -> tuple[Features, Features]:
    """Logistic regression by gradient descent: kernel [F, 2] and bias [2]."""
    features = given.astype(np.float64)  # once, not in every step
    kernel, bias, target = np.zeros((given.shape[1], 2)), np.zeros(2), np.eye(2)[classes]
    for _ in range(400):
        powers = np.exp(features @ kernel + bias)
        error = (powers / powers.sum(axis=1, keepdims=True) - target) / len(features)
        kernel -= 0.2 * (features.T @ error)
        bias -= 0.2 * error.sum(axis=0)
    return kernel.astype(np.float32), bias.astype(np.float32)


@pytest.mark.long
def test_a_head_trained_on_bfloat16_features_is_as_good_when_served_in_float32(
    mobilenet: ModelVersion,
    photographs: tuple[Pictures, NDArray[np.int64], NDArray[np.bool_]],
    tmp_path: Path,
) -> None:
    openvino = import_openvino()
    if choose_precision(openvino.Core(), "auto") != "bf16":
        pytest.skip("this processor does not compute in bfloat16")
    pictures, dogs, test = photographs
    features = np.zeros((len(pictures), 1280), np.float32)
    engine = load_features(mobilenet)
    assert engine.precision == "bf16"
    assert extract(engine, iter(pictures), features) == 550
    graft = Graft(mobilenet, *train(features[~test], dogs[~test]))
    (tmp_path / "openvino").mkdir()
    openvino.save_model(grafted_graph(graft), tmp_path / "openvino" / "model.xml", compress_to_fp16=False)
    version = ModelVersion(tmp_path, mobilenet.manifest, ("cat", "dog"))
    images = np.stack([pixels for index, pixels in pictures if test[index]])
    precisions: tuple[Precision, Precision] = ("bf16", "f32")
    served = [answer(OpenVINOEngine(version, precision=precision), images)[0][:, 0] for precision in precisions]
    accuracies = [float(np.mean(best == dogs[test])) for best in served]
    assert accuracies[0] >= 0.96
    assert abs(accuracies[0] - accuracies[1]) < 0.01, accuracies
