"""Presets by their real names through their libraries' own loading code, from caches that the test has filled."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.children import Child, bare_environment
from models.engines.openvino import OpenVINOEngine
from models.errors import HubUnreachable, InvalidModel, UnknownModel
from models.manifest import ModelVersion
from models.presets import PRESETS
from models.probe import make_probe
from models.pulling import pull
from models.registry import Registry

pytestmark = pytest.mark.slow

KERAS_CV_PRESET = "efficientnetv2_b0_imagenet_classifier"
APPLICATION = "keras_mobilenetv2"
PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pulling")


@pytest.fixture(scope="module")
def known(home: Path) -> dict[str, Any]:
    """The filled caches, and what the installed libraries say of themselves."""
    np.save(home / "images.npy", make_probe(PRESETS[APPLICATION].preprocessing, n=4))
    request = {"kaggle": str(home / "kaggle"), "keras": str(home / "keras"), "images": str(home / "images.npy")}
    return Child("tests.models.hub_cache", home, bare_environment(home), 200.0).ask(request)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way out leads to a closed port of this host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed}")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")


@pytest.fixture
def filled(home: Path, known: dict[str, Any], no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / "kaggle"))
    monkeypatch.setenv("KERAS_HOME", str(home / "keras"))


@pytest.fixture
def empty(tmp_path: Path, no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keras").mkdir()
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def check_answers(version: ModelVersion, home: Path, name: str) -> None:
    """The registered model answers pictures of 0–255 as the original network does with its own preprocessing."""
    images, expected = np.load(home / "images.npy"), np.load(home / f"{name}.npy")
    engine = OpenVINOEngine(version, batch_size=len(images), precision="f32")
    indices, scores = engine.predict(images)
    engine.close()
    assert len(set(indices[:, 0])) > 1, "the test's network says the same to every picture, so nothing is shown"
    assert indices[:, 0].tolist() == expected.argmax(axis=1).tolist()
    assert np.take_along_axis(expected, indices, axis=1) == pytest.approx(scores, abs=1e-3)


def check_names(version: ModelVersion) -> None:
    assert len(version.labels) == 1000
    assert version.labels[:2] == ("thing_0", "thing_1")
    assert (version.labels[134], version.labels[517]) == ("crane (bird)", "crane (machine)")


def test_a_kerascv_preset_is_pulled_through_its_own_from_preset(filled: None, home: Path, tmp_path: Path) -> None:
    told: list[str] = []
    version = pull(KERAS_CV_PRESET, Registry(tmp_path / "models"), progress=told.append)
    assert version.reference == f"{KERAS_CV_PRESET}@1"
    assert version.manifest.preprocessing == PRESETS[KERAS_CV_PRESET].preprocessing
    assert version.manifest.lineage["handle"].startswith("kaggle://keras/efficientnetv2/keras/")
    assert version.manifest.lineage["notes"] == []
    assert version.manifest.parameters == PRESETS[KERAS_CV_PRESET].parameters
    assert told[0].startswith(f"fetching {KERAS_CV_PRESET} (about 29 MB")
    check_names(version)
    check_answers(version, home, KERAS_CV_PRESET)


@pytest.mark.long
def test_a_keras_application_is_pulled_through_its_own_weights_imagenet(
    filled: None, home: Path, tmp_path: Path
) -> None:
    version = pull(APPLICATION, Registry(tmp_path / "models"), as_name="small")
    assert version.reference == "small@1"
    assert version.manifest.lineage["preset"] == APPLICATION
    assert version.manifest.parameters == PRESETS[APPLICATION].parameters
    check_names(version)
    check_answers(version, home, APPLICATION)


def test_the_catalogue_says_what_the_installed_kerascv_says(known: dict[str, Any]) -> None:
    ours = {preset.name: preset.parameters for preset in PRESETS.values() if preset.source == "keras_cv"}
    assert ours == {name: parameters for name, (parameters, _handle) in known["keras_cv"].items()}


def test_the_catalogue_offers_every_keras_application(known: dict[str, Any]) -> None:
    ours = {preset.loads: preset for preset in PRESETS.values() if preset.source == "keras_application"}
    assert set(ours) == set(known["applications"])
    assert {name: ours[name].parameters for name in known["parameters"]} == known["parameters"]


def test_the_pixel_layers_equal_the_preprocess_input_of_every_application(known: dict[str, Any]) -> None:
    assert len(known["differences"]) == len([p for p in PRESETS.values() if p.source == "keras_application"])
    assert max(known["differences"].values()) < 1e-4


@pytest.mark.parametrize(
    ("name", "tried"), [(KERAS_CV_PRESET, "kaggle://keras/efficientnetv2"), (APPLICATION, "https://")]
)
def test_an_unreachable_hub_says_what_was_tried_and_how_to_go_on(
    empty: None, tmp_path: Path, name: str, tried: str
) -> None:
    registry = Registry(tmp_path / "models")
    with pytest.raises(HubUnreachable) as failure:
        pull(name, registry)
    text = str(failure.value)
    assert tried in text
    assert str(tmp_path / "kaggle") in text
    assert f"pixmill models pull {name} && pixmill models export {name} {name}.zip" in text
    assert f"pixmill models import {name}.zip" in text
    assert list(registry.list()) == []


@pytest.fixture
def silent_proxy() -> Iterator[int]:
    """Accepts every call and says nothing."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in kept:
        connection.close()


def test_a_hub_that_accepts_and_says_nothing_is_given_up(
    empty: None, silent_proxy: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{silent_proxy}")
    with pytest.raises(HubUnreachable, match="no byte came for 2 s"):
        pull(KERAS_CV_PRESET, Registry(tmp_path / "models"), stall_s=2.0)


def test_a_damaged_cache_says_where_to_delete(
    filled: None, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "keras" / "models" / next((home / "keras" / "models").glob("*.h5")).name
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"half a download")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(InvalidModel, match=r"(?s)cannot be loaded.*delete it there"):
        pull(APPLICATION, Registry(tmp_path / "models"))


def test_a_name_that_is_no_presets_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="keras_resnet50"):
        pull("resnet50", Registry(tmp_path / "models"))
