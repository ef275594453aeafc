"""A version's compiled graph, and the place in it where the backbone ends and the head begins."""

from __future__ import annotations

from typing import Any

from models.engines.openvino import import_openvino
from models.errors import InvalidModel
from models.manifest import ModelVersion

# Operations that only arrange what they are given first; what else they take says how.
_ARRANGING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Transpose", "ReduceMean", "AvgPool"})


def read_graph(core: Any, version: ModelVersion) -> Any:
    """The version's graph as OpenVINO read it. Raises InvalidModel where there is none, or it cannot be read."""
    path = version.path / "openvino" / "model.xml"
    if not path.is_file():
        raise InvalidModel(f"{version.reference} has no compiled form ({path}).")
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise InvalidModel(f"{path}: OpenVINO cannot read the compiled form of {version.reference}: {error}") from error


def find_features(graph: Any, reference: str) -> Any:
    """The output, float32 [N, F], that the last layer with a kernel takes: a dense one, or a 1×1 convolution.

    What a convolution classifies is averaged over its places: the same as classifying first and averaging then.
    Raises InvalidModel where the way from the answer back to that layer forks, or there is no such layer.
    """
    tops = [node for node in graph.get_ordered_ops() if node.get_type_name() == "TopK"]
    node = tops[-1] if tops else None
    while node is not None:
        features = _taken_by(node)
        if features is not None:
            return features
        node = _before(node)
    raise InvalidModel(
        f"{reference}: its compiled form does not end in one dense layer, or one 1×1 convolution, over all features."
    )


def _taken_by(node: Any) -> Any:
    """The features that this node classifies; None where it is no layer with a kernel of the right kind."""
    kind = node.get_type_name()
    if kind not in ("MatMul", "Convolution") or not _is_constant(node.input_value(1)):
        return None
    taken = node.input_value(0)
    shape = taken.get_partial_shape()
    if kind == "MatMul":
        fits = len(shape) == 2 and shape[1].is_static and not node.get_attributes()["transpose_a"]
        return taken if fits else None
    kernel = node.input_value(1).get_partial_shape()
    pointwise = len(shape) == 4 and shape[1].is_static and [str(side) for side in list(kernel)[2:]] == ["1", "1"]
    # In the compiled form channels come first.
    return import_openvino().opset13.reduce_mean(taken, [2, 3], keep_dims=False).output(0) if pointwise else None


def _before(node: Any) -> Any:
    """The one node whose result this one works on, else None: products end the way, and so do forks."""
    kind = node.get_type_name()
    if kind in ("MatMul", "Convolution", "GroupConvolution"):
        return None
    inputs = node.input_values()
    if kind in _ARRANGING:
        inputs = inputs[:1]
    moving = [value for value in inputs if not _is_constant(value)]
    return moving[0].get_node() if len(moving) == 1 else None


def _is_constant(value: Any) -> bool:
    node = value.get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        return True
    inputs = node.input_values()
    return kind != "Parameter" and bool(inputs) and all(_is_constant(source) for source in inputs)
