"""Conversion in a process of its own: what it leaves behind, and what it refuses."""

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.conversion import ConversionReport, convert_in_process, read_version
from models.engines.loading import load_engine
from models.errors import InvalidModel
from models.manifest import ModelVersion
from models.probe import load_probe, save_probe


@pytest.fixture
def unconverted(own_version: ModelVersion) -> ModelVersion:
    shutil.rmtree(own_version.path / "openvino")
    return own_version


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


SOURCES = {"model.keras", "labels.json", "manifest.json", "probe.npz"}


def test_two_processes_that_convert_at_once_leave_one_whole_compiled_form(unconverted: ModelVersion) -> None:
    reports: list[ConversionReport] = []
    threads = [threading.Thread(target=lambda: reports.append(convert_in_process(unconverted))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2
    assert entries(unconverted.path) == SOURCES | {"openvino"}
    assert entries(unconverted.path / "openvino") == {"model.xml", "model.bin", "report.json"}
    load_engine(unconverted, "openvino").close()

    report = reports[0]
    assert report.reference == "rgb@1"
    assert 0 <= report.difference < 1e-5
    assert 0 <= report.drift < 1e-3
    assert report.weights_bytes == (unconverted.path / "openvino" / "model.bin").stat().st_size
    assert json.loads((unconverted.path / "openvino" / "report.json").read_text())["reference"] == "rgb@1"
    assert not {"tensorflow", "keras"} & set(sys.modules), "the parent stays without Keras"


def test_a_compiled_form_that_answers_otherwise_may_not_serve(unconverted: ModelVersion) -> None:
    """Two classes swapped in what Keras is said to have answered: as if OpenVINO had swapped them."""
    images, probabilities = load_probe(unconverted.path / "probe.npz")
    save_probe(unconverted.path / "probe.npz", images, probabilities[:, [1, 0, *range(2, 10)]])
    with pytest.raises(InvalidModel, match=r"does not answer as Keras does.*'class \d' .* was expected"):
        convert_in_process(unconverted)
    assert entries(unconverted.path) == SOURCES


def test_a_damaged_model_is_refused_in_keras_own_words(unconverted: ModelVersion) -> None:
    (unconverted.path / "model.keras").write_bytes(b"no archive")
    with pytest.raises(InvalidModel, match=r"Keras .* cannot open rgb@1"):
        convert_in_process(unconverted)
    assert entries(unconverted.path) == SOURCES


def test_a_version_without_a_probe_is_refused_before_keras_is_started(unconverted: ModelVersion) -> None:
    (unconverted.path / "probe.npz").unlink()
    with pytest.raises(InvalidModel, match="expected a probe"):
        convert_in_process(unconverted)


def test_a_conversion_that_takes_too_long_is_ended(unconverted: ModelVersion) -> None:
    with pytest.raises(InvalidModel, match="ended by SIGKILL"):
        convert_in_process(unconverted, timeout_s=0.3)
    assert "openvino" not in entries(unconverted.path)


def test_a_folder_that_is_no_version_is_refused(tmp_path: Path, own_version: ModelVersion) -> None:
    with pytest.raises(InvalidModel, match="expected the folder of a model version"):
        read_version(tmp_path)
    with pytest.raises(InvalidModel, match="expected the folder of a model version"):
        convert_in_process(replace(own_version, path=tmp_path))
    said = subprocess.run(
        [sys.executable, "-m", "models.conversion", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert said.returncode == 1
    assert said.stdout == ""
    assert "expected the folder of a model version" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_version_reads_back_as_it_was(own_version: ModelVersion) -> None:
    assert read_version(own_version.path) == own_version
    assert np.load(own_version.path / "probe.npz")["probabilities"].shape == (8, own_version.manifest.classes)
