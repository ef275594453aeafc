import subprocess
import sys
from collections.abc import Mapping

import pytest

from models.children import Child, bare_environment
from models.errors import UnknownModel
from models.recipes import RegularizationChoice
from models.training.catalogue import NETWORKS
from models.training.networks import build_network

pytestmark = pytest.mark.slow

CHECKS = (
    "small_networks_answer_with_probabilities",
    "small_networks_have_the_sizes_of_their_descriptions",
    "penalties_and_dropout_are_the_recipes",
    "the_seed_decides_the_first_weights",
    "pictures_that_are_too_small_are_refused",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the child found; a traceback for each check that failed."""
    folder = tmp_path_factory.mktemp("networks")
    child = Child("tests.models.training.keras_networks", folder, bare_environment(folder), 120)
    return child.ask({})


@pytest.mark.parametrize("check", CHECKS)
def test_small_networks_are_built(report: Mapping[str, str], check: str) -> None:
    assert not report[check], report[check]


def test_no_check_is_forgotten(report: Mapping[str, str]) -> None:
    assert set(report) == set(CHECKS)


def test_the_catalogue_is_read_without_any_framework() -> None:
    code = "import sys, models.training.networks; print(sorted({'keras','keras_cv','tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


def test_an_unknown_network_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="fashion_cnn"):
        build_network("fashion_dnn", (28, 28, 1), 10, RegularizationChoice())


def test_every_network_makes_sense() -> None:
    assert list(NETWORKS) == ["fashion_cnn", "cifar_cnn", "cifar_vgg", "cifar_vgg_bn", "cnn_l2"]
    for name, network in NETWORKS.items():
        assert name == network.name
        assert network.description
        assert min(network.width, network.height) >= network.smallest
