"""The small networks that are trained from nothing: how each of the catalogue is built with Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.errors import InvalidRecipe, UnknownModel
from models.recipes import RegularizationChoice
from models.training.catalogue import NETWORKS


def build_network(name: str, shape: tuple[int, int, int], classes: int, regularization: RegularizationChoice) -> Any:
    """The network of that name: pixels 0–255 [N, H, W, C] named "picture" to probabilities float32 [N, classes].

    `shape` is (height, width, channels). Weights come from Keras's random state (`keras.utils.set_random_seed`).
    Raises InvalidRecipe for pictures that are too small, UnknownModel for another name.
    """
    if name not in NETWORKS:
        raise UnknownModel(name, list(NETWORKS), "pixmill models presets")
    network = NETWORKS[name]
    if min(shape[:2]) < network.smallest:
        raise InvalidRecipe(
            f"{name} needs pictures of at least {network.smallest}×{network.smallest} pixels, got "
            f"{shape[1]}×{shape[0]}; set image.width and image.height."
        )
    import keras

    layers = Layers(keras, regularization)
    picture = keras.Input(shape, name="picture")
    x = _BUILDERS[name](layers, keras.layers.Rescaling(1 / 255, name="rescaling")(picture))
    dropout = network.dropout if regularization.dropout is None else regularization.dropout
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    answer = layers.dense(classes, "softmax", "predictions", dtype="float32")(x)
    return keras.Model(picture, answer, name=name)


class Layers:
    """Keras's layers with the recipe's penalty on every kernel."""

    def __init__(self, keras: Any, regularization: RegularizationChoice) -> None:
        self.keras, self.all = keras, keras.layers
        self.l1, self.l2 = regularization.l1, regularization.l2

    def convolution(self, x: Any, filters: int, *, strides: int = 1, padding: str = "valid") -> Any:
        """3×3 with ReLU, applied."""
        layer = self.all.Conv2D(
            filters, 3, strides=strides, padding=padding, activation="relu", kernel_regularizer=self._penalty()
        )
        return layer(x)

    def dense(self, units: int, activation: str, name: str | None = None, dtype: str | None = None) -> Any:
        """A dense layer, to be applied."""
        return self.all.Dense(units, activation=activation, kernel_regularizer=self._penalty(), name=name, dtype=dtype)

    def _penalty(self) -> Any:
        return self.keras.regularizers.L1L2(self.l1, self.l2) if self.l1 or self.l2 else None


def _strided(layers: Layers, x: Any) -> Any:
    """Three convolutions, each halving the sides."""
    for filters in (32, 64, 128):
        x = layers.convolution(x, filters, strides=2)
    return layers.all.Flatten()(x)


def _double(layers: Layers, x: Any, *, normalised: bool) -> Any:
    """Three blocks of two convolutions and a pooling."""
    for filters in (32, 64, 128):
        for _ in range(2):
            x = layers.convolution(x, filters, padding="same")
            if normalised:
                x = layers.all.BatchNormalization()(x)
        x = layers.all.MaxPooling2D(2)(x)
    return layers.all.Flatten()(x)


def _wide(layers: Layers, x: Any) -> Any:
    """The hidden layer of the networks for CIFAR."""
    return layers.dense(1024, "relu")(layers.all.Dropout(0.5, name="flat_dropout")(x))


def _fashion_cnn(layers: Layers, x: Any) -> Any:
    return layers.dense(512, "relu")(_strided(layers, x))


def _cifar_cnn(layers: Layers, x: Any) -> Any:
    return _wide(layers, _strided(layers, x))


def _cifar_vgg(layers: Layers, x: Any) -> Any:
    return _wide(layers, _double(layers, x, normalised=False))


def _cifar_vgg_bn(layers: Layers, x: Any) -> Any:
    return _wide(layers, _double(layers, x, normalised=True))


def _cnn_l2(layers: Layers, x: Any) -> Any:
    for filters in (32, 64):
        x = layers.all.BatchNormalization()(layers.convolution(x, filters))
    x = layers.all.Dropout(0.2, name="pooled_dropout")(layers.all.MaxPooling2D(2)(x))
    return layers.dense(128, "relu")(layers.all.Flatten()(x))


# Each gets the layers to build with and the pixels 0–1, and answers what the last layer takes.
_BUILDERS: Mapping[str, Callable[[Layers, Any], Any]] = {
    "fashion_cnn": _fashion_cnn,
    "cifar_cnn": _cifar_cnn,
    "cifar_vgg": _cifar_vgg,
    "cifar_vgg_bn": _cifar_vgg_bn,
    "cnn_l2": _cnn_l2,
}
