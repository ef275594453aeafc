"""The compiled form of a new head on a registered backbone, made from the base's compiled form: no conversion needed.

A head of one dense layer is three operations in OpenVINO's own terms. Writing them behind the backbone's graph takes a
fifth of a second where Keras → SavedModel → conversion takes six; whether the result may serve is decided by the same
comparison with Keras on the probe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.conversion import ConversionReport, install, keep_logits_float32
from models.engines.base import MAX_TOP_K
from models.engines.openvino import import_openvino
from models.errors import InvalidModel
from models.manifest import ModelVersion
from models.training.backbone_graph import find_features, read_graph

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Graft:
    """A softmax layer, kernel [F, K] and bias [K], on the backbone of `base`."""

    base: ModelVersion
    kernel: Numbers
    bias: Numbers


def graft(head: Graft, version: ModelVersion) -> ConversionReport:
    """Write `openvino/` into the folder of `version`, whose probe says what Keras answers for backbone and head.

    Raises InvalidModel where the base's compiled form cannot be cut, shapes do not fit, or the answers drift from
    Keras's; then nothing is left behind, and `models.conversion.convert` can do it.
    """
    return install(version, lambda _: grafted_graph(head))


def grafted_graph(head: Graft) -> Any:
    """The serving graph: uint8 pictures as the base takes them, to `indices` int32 and `scores` float32 [N, top-k]."""
    openvino = import_openvino()
    graph = read_graph(openvino.Core(), head.base)
    features = find_features(graph, head.base.reference)
    _check_shapes(head, int(features.get_partial_shape()[1].get_length()))
    ops = openvino.opset13
    kernel = ops.constant(np.ascontiguousarray(head.kernel.T, np.float32))
    product = ops.matmul(features, kernel, transpose_a=False, transpose_b=True)
    logits = ops.add(product, ops.constant(head.bias.astype(np.float32)[np.newaxis]))
    classes = len(head.bias)
    # "stable": equal probabilities keep the order of their classes, as in models.engines.serving.
    top = ops.topk(
        ops.softmax(logits, axis=-1),
        ops.constant(np.int32(min(classes, MAX_TOP_K))),
        axis=-1,
        mode="max",
        sort="value",
        index_element_type="i32",
        stable=True,
    )
    scores, indices = top.output(0), top.output(1)
    scores.get_tensor().set_names({"scores"})
    indices.get_tensor().set_names({"indices"})
    made = openvino.Model([ops.result(indices), ops.result(scores)], graph.get_parameters(), "grafted")
    keep_logits_float32(made, openvino)
    return made


def _check_shapes(head: Graft, features: int) -> None:
    if head.kernel.ndim != 2 or head.kernel.shape[0] != features or head.bias.shape != head.kernel.shape[1:]:
        raise InvalidModel(
            f"{head.base.reference}: expected a kernel [{features}, classes] and a bias [classes], "
            f"got {list(head.kernel.shape)} and {list(head.bias.shape)}."
        )
