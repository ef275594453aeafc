"""Takes classifiers apart into backbone and head, puts them together again, and says which layers train."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras

from models.errors import InvalidModel
from models.manifest import Scale
from models.recipes import RegularizationChoice

NORMALISATIONS = (keras.layers.BatchNormalization,)

SCRATCH_DROPOUT = 0.5  # before the head of a backbone that is trained from nothing (DESIGN §6)


def cut(model: Any) -> Any:
    """The same graph up to what its last layer with a kernel takes: pixels [N, H, W, C] to features [N, F].

    Shares its layers with `model`. Dropout before the head is left out; maps that a convolution classifies are
    averaged. Raises InvalidModel where there is no such layer, or more than one.
    """
    found = _features(model)
    if found is None:
        raise InvalidModel(
            f"{model.name} has no last layer with a kernel (Dense, or a convolution) to cut off; it cannot be the "
            "base of a fine-tuning."
        )
    if len(found.shape) == 4:
        found = keras.layers.GlobalAveragePooling2D(name=_free_name(model, "features"))(found)
    if len(found.shape) != 2 or found.shape[1] is None:
        raise InvalidModel(f"What the last layer of {model.name} takes has the shape {found.shape}; expected (N, F).")
    return keras.Model(model.inputs[0], found, name=f"{model.name}_features")


def with_scale(backbone: Any, scale: Scale) -> Any:
    """The backbone behind the layer that brings 0–255 to its `scale`; itself where it takes 0–255."""
    if scale == "0-255":
        return backbone
    picture = keras.Input(backbone.inputs[0].shape[1:], name="picture")
    factor, offset = (1 / 255, 0.0) if scale == "0-1" else (1 / 127.5, -1.0)
    scaled = keras.layers.Rescaling(factor, offset=offset, name="scale")(picture)
    return keras.Model(picture, backbone(scaled), name=f"{backbone.name}_scaled")


def build_head(
    features: int, classes: int, regularization: RegularizationChoice, seed: int, *, from_scratch: bool = False
) -> Any:
    """Features [N, F] to probabilities float32 [N, classes]: layers "dropout" (where there is one) and "predictions".

    `from_scratch`: on a backbone without pretrained weights, whose features are maxima (DESIGN §6): half of them drop
    out where the recipe does not say otherwise. The first weights are a function of `seed`.
    """
    vector = keras.Input((features,), name="features")
    x = vector
    if from_scratch:
        # Maxima are large: the sum of their squares goes into the thousands, and plain SGD with any usual rate is
        # thrown out of the last layer's narrow valley. Divided by the root of their number they are as long as one.
        x = keras.layers.Rescaling(1 / math.sqrt(features), name="shortened")(x)
    default = SCRATCH_DROPOUT if from_scratch else 0.0
    dropout = default if regularization.dropout is None else regularization.dropout
    if dropout:
        x = keras.layers.Dropout(dropout, seed=seed, name="dropout")(x)
    l1, l2 = regularization.l1, regularization.l2
    predictions = keras.layers.Dense(
        classes,
        activation="softmax",
        dtype="float32",
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        kernel_regularizer=keras.regularizers.L1L2(l1, l2) if l1 or l2 else None,
        name="predictions",
    )
    return keras.Model(vector, predictions(x), name="head")


def assemble(backbone: Any, head: Any) -> Any:
    """One model from picture to probabilities; `cut` gives the backbone again. Shares the layers of both.

    The head's layers stand behind the backbone's own, in one flat graph; behind the backbone as one layer where a name
    would be there twice.
    """
    added = [layer for layer in head.layers if not isinstance(layer, keras.layers.InputLayer)]
    taken = {layer.name for layer in backbone.layers}
    if taken.isdisjoint(layer.name for layer in added):
        inputs, x = backbone.inputs[0], backbone.outputs[0]
    else:
        inputs = keras.Input(backbone.inputs[0].shape[1:], name="picture")
        x = backbone(inputs)
    for layer in added:
        x = layer(x)
    return keras.Model(inputs, x, name="classifier")


def freeze(model: Any, backbone: Any, layers_unfrozen: int | None) -> int:
    """Let the last `layers_unfrozen` layers with weights of the backbone train: 0 for all of them, None for none.

    The head always trains. BatchNormalization of the backbone never does, and so stays in inference mode: the few
    pictures of a batch would replace the statistics that the pretrained weights were made for, and a rate low enough
    for fine-tuning never learns them again. Answers how many numbers train.
    """
    model.trainable = True
    # On TensorFlow, setting what is already set is not passed on to the layers within, so each is told by itself.
    for layer in backbone._flatten_layers():
        layer.trainable = layers_unfrozen is not None
    if layers_unfrozen is not None:
        leaves = [layer for layer in _leaves(backbone) if layer.weights]
        learning = [layer for layer in leaves if not isinstance(layer, NORMALISATIONS)]
        resting = learning[:-layers_unfrozen] if layers_unfrozen else []
        for layer in (*resting, *(layer for layer in leaves if isinstance(layer, NORMALISATIONS))):
            layer.trainable = False
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def _features(model: Any) -> Any:
    """The tensor, in the model's own graph, that its last layer with a kernel takes, before any dropout.

    None where there is no such layer.
    """
    candidates = {}
    waiting = list(model.outputs)
    seen = set()
    while waiting:
        tensor = waiting.pop()
        operation, node_index, _ = tensor._keras_history
        if (id(operation), node_index) in seen:
            continue
        seen.add((id(operation), node_index))
        if isinstance(operation, keras.layers.InputLayer):
            continue
        given = operation._inbound_nodes[node_index].input_tensors
        inside = _inside(operation, given)
        if inside is not None:
            candidates[id(operation), node_index] = _without_dropout(inside)
        elif _has_kernel(operation):
            candidates[id(operation), node_index] = _without_dropout(given[0])
        else:
            waiting += given
    if len(candidates) > 1:
        raise InvalidModel(f"{model.name} ends in {len(candidates)} layers with kernels side by side; expected one.")
    return next(iter(candidates.values()), None)


def _inside(operation: Any, given: list[Any]) -> Any:
    """Where the operation is a model with a kernel in it: the features inside, in the outer graph; else None."""
    if not isinstance(operation, keras.Model):
        return None
    if not getattr(operation, "outputs", None):
        raise InvalidModel(f"{operation.name} is a model whose graph is hidden in its code; it cannot be cut.")
    inner = _features(operation)
    if inner is None:
        return None
    inputs = operation.inputs
    if inner is inputs[0]:
        return given[0]
    if len(inputs) > 1:
        return keras.Model(inputs, inner, name=f"{operation.name}_features")(given)
    return keras.Model(inputs[0], inner, name=f"{operation.name}_features")(given[0])


def _has_kernel(operation: Any) -> bool:
    """Whether this is a layer to cut at. Raises InvalidModel for blocks of layers, whose own code joins them."""
    if getattr(operation, "kernel", None) is not None:
        return True
    if isinstance(operation, keras.Layer) and list(operation._flatten_layers(include_self=False)):
        raise InvalidModel(f"The layer {operation.name} is made of layers; a head inside of it cannot be cut off.")
    return False


def _without_dropout(tensor: Any) -> Any:
    """What comes before the dropouts that made this tensor: the new head has its own."""
    operation, node_index, _ = tensor._keras_history
    if isinstance(operation, keras.layers.Dropout):
        return _without_dropout(operation._inbound_nodes[node_index].input_tensors[0])
    return tensor


def _leaves(model: Any) -> Iterator[Any]:
    """Layers without layers in them, those of models and blocks within too, first to last."""
    layers = getattr(model, "layers", None) or list(model._flatten_layers(include_self=False, recursive=False))
    for layer in layers:
        inner = list(layer._flatten_layers(include_self=False, recursive=False))
        if inner:
            yield from _leaves(layer)
        else:
            yield layer


def _free_name(model: Any, wanted: str) -> str:
    taken = {layer.name for layer in model.layers}
    return wanted if wanted not in taken else _free_name(model, f"{wanted}_")
