"""A child that builds models of many kinds with Keras and looks at each with `models.opening`.

request: `folder`, where `<kind>.keras` is saved, and `kinds` (all where it is missing). Answers, for each kind,
what was found: `input`, `classes`, `output`, `rescaled`, or the refusal's text.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from models import opening
from models.children import Progress, answer_with
from models.errors import InvalidModel
from models.probe import make_probe
from models.wishes import Overrides

WEIGHTS_SEED = 3


def network(shape: tuple[int | None, ...], *tail: Any, rescale: bool = True) -> Any:
    """A convolution, global pooling, and what comes after."""
    picture = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(picture) if rescale else picture
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, strides=2, activation="relu")(x))
    for layer in tail:
        x = layer(x)
    return keras.Model(picture, x)


def nested() -> Any:
    """A head on a feature model, as fine-tuning makes it; the activation is a layer of its own."""
    picture = keras.Input((32, 32, 3))
    features = network((32, 32, 3))
    return keras.Model(picture, network_head(features(picture)))


def network_head(x: Any) -> Any:
    return layers.Activation("softmax")(layers.Dense(4)(x))


def ends_in_a_model() -> Any:
    """The last layer is itself a model, and that one ends in a softmax."""
    features = keras.Input((8,))
    head = keras.Model(features, layers.Dense(4, activation="softmax")(features))
    return network((32, 32, 3), head)


def normalised_by_hand() -> Any:
    """Probabilities that no layer's name gives away: only the answers show them."""
    picture = keras.Input((32, 32, 3))
    x = layers.Dense(4, activation="relu")(network((32, 32, 3))(picture)) + 1.0
    return keras.Model(picture, x / keras.ops.sum(x, axis=-1, keepdims=True))


def two_inputs() -> Any:
    first, second = keras.Input((32, 32, 3), name="left"), keras.Input((32, 32, 3), name="right")
    model = network((32, 32, 3), layers.Dense(3))
    return keras.Model([first, second], layers.add([model(first), model(second)]))


def two_outputs() -> Any:
    model = network((32, 32, 3))
    return keras.Model(model.input, [layers.Dense(3)(model.output), layers.Dense(2)(model.output)])


def lists_of_one() -> Any:
    model = network((32, 32, 3), layers.Dense(4, activation="softmax"))
    return keras.Model([model.input], {"scores": model.output})


def broken_weights() -> Any:
    model = network((32, 32, 3), layers.Dense(3, activation="softmax"))
    model.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in model.layers[-1].get_weights()])
    return model


def vector() -> Any:
    numbers = keras.Input((10,))
    return keras.Model(numbers, layers.Dense(3)(numbers))


def flip_and_offset() -> Any:
    """What `models.fetching` puts before networks that want BGR."""
    picture = keras.Input((32, 32, 3))
    x = layers.Rescaling(1.0, offset=[-1.0, -2.0, -3.0])(keras.ops.flip(picture, axis=-1))
    return keras.Model(picture, network((32, 32, 3), layers.Dense(3, activation="softmax"), rescale=False)(x))


def not_for_openvino() -> Any:
    """Singular values: OpenVINO has no such operation."""
    picture = keras.Input((16, 16, 1))
    values = keras.ops.svd(keras.ops.squeeze(layers.Rescaling(1 / 255)(picture), axis=-1), compute_uv=False)
    return keras.Model(picture, layers.Dense(3, activation="softmax")(values))


KINDS: Mapping[str, Callable[[], Any]] = {
    "softmax": lambda: network((32, 40, 3), layers.Dense(10, activation="softmax")),
    "logits": lambda: network((28, 28, 1), layers.Dense(5)),
    "sigmoid": lambda: network((32, 32, 3), layers.Dense(5, activation="sigmoid")),
    "softmax layer": lambda: network((32, 32, 3), layers.Dense(5), layers.Softmax()),
    "nested": nested,
    "ends in a model": ends_in_a_model,
    "normalised by hand": normalised_by_hand,
    "flip and offset": flip_and_offset,
    "not for OpenVINO": not_for_openvino,
    "any size": lambda: network((None, None, 3), layers.Dense(5, activation="softmax")),
    "any size, unsaid": lambda: network((None, 20, 3), layers.Dense(5)),
    "another size": lambda: network((32, 32, 3), layers.Dense(5)),
    "no rescaling": lambda: network((32, 32, 3), layers.Dense(5, activation="softmax"), rescale=False),
    "sequential": lambda: keras.Sequential([keras.Input((16, 16, 3)), layers.Flatten(), layers.Dense(3, "softmax")]),
    "lists of one": lists_of_one,
    "two inputs": two_inputs,
    "two outputs": two_outputs,
    "vector": vector,
    "channels first": lambda: keras.Sequential([keras.Input((3, 32, 32)), layers.Flatten(), layers.Dense(3)]),
    "five channels": lambda: network((32, 32, 5), layers.Dense(3)),
    "features only": lambda: keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(4, 3)]),
    "single output": lambda: network((32, 32, 3), layers.Dense(1, activation="sigmoid")),
    "broken weights": broken_weights,
}


def examine(file: Path) -> dict[str, Any]:
    """What `models.opening` finds in a file, asked in the order in which `prepare` asks."""
    size = {"any size": (24, 16), "another size": (48, 48)}.get(file.stem)
    overrides = Overrides(size=size)
    try:
        model = opening.open_model(file)
        width, height, channels = opening.find_input(model, overrides)
        classes = opening.find_classes(model)
        preprocessing = overrides.preprocessing(width, height, channels)
        rescaled = any(type(layer).__name__ in opening.RESCALING_LAYERS for layer in opening.all_layers(model))
        model = opening.with_fixed_size(opening.with_plain_ends(model), preprocessing)
        raw = opening.answers(model, make_probe(preprocessing, n=2), "0-255")
        output = opening.find_output(model, raw)
        sums = opening.probabilities(raw, output).sum(axis=1)
    except InvalidModel as refusal:
        return {"refused": str(refusal)}
    fixed = list(model.inputs[0].shape[1:])
    return {
        "input": [width, height, channels], "fixed": fixed, "classes": classes, "output": output, "rescaled": rescaled,
        "sums": [float(number) for number in sums],
    }  # fmt: skip


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    folder = Path(request["folder"])
    found = {}
    for kind in request.get("kinds", KINDS):
        keras.utils.set_random_seed(WEIGHTS_SEED)
        file = folder / f"{kind}.keras"
        KINDS[kind]().save(file)
        found[kind] = examine(file)
    return found


if __name__ == "__main__":
    answer_with(work)
