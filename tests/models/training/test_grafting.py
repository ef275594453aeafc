"""Grafts without Keras: the base's own head, put on its backbone again, must answer as before."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from models.engines.loading import load_engine
from models.errors import InvalidModel
from models.manifest import ModelVersion
from models.training.grafting import Graft, graft, grafted_graph

Versions = Callable[[str], ModelVersion]


def own_head(version: ModelVersion) -> Graft:
    """Kernel and bias of the last dense layer, read from the model's file."""
    found = []

    def visit(_name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.shape[-1:] == (version.manifest.classes,):
            found.append(np.asarray(item))

    with zipfile.ZipFile(version.path / "model.keras") as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights) as file:
        file.visititems(visit)
    bias, kernel = sorted(found, key=np.ndim)
    return Graft(version, kernel, bias)


def copy_of(version: ModelVersion, folder: Path) -> ModelVersion:
    """The version's probe and labels, without a compiled form."""
    folder.mkdir()
    for name in ("probe.npz", "labels.json"):
        (folder / name).write_bytes((version.path / name).read_bytes())
    return replace(version, path=folder)


@pytest.mark.parametrize("kind", ["rgb", "grey_logits", "many_classes"])
def test_the_old_head_on_the_old_backbone_answers_as_the_model_did(
    small_version: Versions, tmp_path: Path, kind: str
) -> None:
    base = small_version(kind)
    version = copy_of(base, tmp_path / "grafted")
    report = graft(own_head(base), version)
    assert report.drift < 1e-3
    assert {entry.name for entry in version.path.iterdir()} == {"probe.npz", "labels.json", "openvino"}
    assert json.loads((version.path / "openvino" / "report.json").read_text())["reference"] == f"{kind}@1"
    with np.load(base.path.parent / f"{kind}.npz") as arrays:
        images = arrays["images"][:8]
    before, after = (load_engine(which, "openvino", precision="f32").predict(images) for which in (base, version))
    assert np.array_equal(before[0], after[0])
    assert np.allclose(before[1], after[1], atol=1e-5)
    assert after[0].shape[1] == min(base.manifest.classes, 20)


def test_a_graft_that_does_not_answer_the_probe_leaves_nothing_behind(small_version: Versions, tmp_path: Path) -> None:
    base = small_version("rgb")
    version = copy_of(base, tmp_path / "grafted")
    head = own_head(base)
    with pytest.raises(InvalidModel, match="does not answer as Keras does"):
        graft(replace(head, bias=head.bias + np.linspace(0, 3, 10, dtype=np.float32)), version)
    assert {entry.name for entry in version.path.iterdir()} == {"probe.npz", "labels.json"}


def test_a_head_of_another_shape_is_refused(small_version: Versions) -> None:
    head = own_head(small_version("rgb"))
    with pytest.raises(InvalidModel, match=r"expected a kernel \[48, classes\] and a bias \[classes\], got \[47, 10\]"):
        grafted_graph(replace(head, kernel=head.kernel[1:]))
    with pytest.raises(InvalidModel, match=r"got \[48, 10\] and \[9\]"):
        grafted_graph(replace(head, bias=head.bias[1:]))


def test_the_logits_stay_float32_as_in_a_converted_form(small_version: Versions) -> None:
    """The clamp of models.conversion is there, and nothing of the old head is."""
    graph = grafted_graph(replace(own_head(small_version("many_classes")), bias=np.zeros(30, np.float32)))
    kinds = [node.get_type_name() for node in graph.get_ordered_ops()]
    assert kinds.count("TopK") == kinds.count("Softmax") == 1
    softmax = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "Softmax")
    assert softmax.input_value(0).get_node().get_type_name() == "Clamp"
    assert [sorted(output.get_names()) for output in graph.outputs] == [["indices"], ["scores"]]
