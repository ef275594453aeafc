"""The backbones of fine-tuning and of training from nothing: KerasCV's and Keras applications', built in this one file.

Their catalogue is `models.training.catalogue`; Keras is imported when a backbone is built.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from models.errors import HubUnreachable, InvalidModel, InvalidRecipe
from models.presets import PRESETS
from models.training.catalogue import BACKBONES, Backbone, find_backbone

Pooling = Literal["avg", "max"]
SMALLEST = 32  # pixels of a side: five halvings leave one
STALL_S = 60.0  # without a byte from the hub


def build_backbone(preset: str, shape: tuple[int, int, int], *, pretrained: bool, pooling: Pooling = "avg") -> Any:
    """A Keras model from pixels 0–255 [N, H, W, C] named "picture" to pooled features float32 [N, F].

    `shape` is (height, width, channels); grey pictures are given to the network three times over. Without `pretrained`
    no network is needed; with it, weights come from the libraries' own caches or hubs. Raises HubUnreachable with
    advice, InvalidRecipe for a shape the backbone cannot take or weights that do not exist, UnknownModel.
    """
    backbone = find_backbone(preset)
    if min(shape[:2]) < SMALLEST:
        raise InvalidRecipe(
            f"{backbone.name} needs pictures of at least {SMALLEST}×{SMALLEST} pixels, got {shape[1]}×{shape[0]}; set "
            "image.width and image.height, or take one of the small networks (fashion_cnn, cifar_vgg, …)."
        )
    if pretrained and not backbone.has_weights:
        raise InvalidRecipe(
            f"No pretrained weights are published for {backbone.name}; train it with pretrained=false, or take "
            f"{', '.join(sorted(name for name, other in BACKBONES.items() if other.has_weights)[:3])}, …"
        )
    import keras

    network = _network(backbone, shape)
    if pretrained:
        _take_weights(network, backbone)
    picture = keras.Input(shape, name="picture")
    x = picture if shape[2] == 3 else keras.layers.Concatenate(name="grey_to_rgb")([picture] * 3)
    pool = keras.layers.GlobalAveragePooling2D if pooling == "avg" else keras.layers.GlobalMaxPooling2D
    features = pool(dtype="float32", name="pooling")(network(_prepared(x, backbone)))
    return keras.Model(picture, features, name=backbone.name)


def _network(backbone: Backbone, shape: tuple[int, int, int]) -> Any:
    """The bare network with random weights: RGB in the range it wants, to feature maps. Offline."""
    height, width, _ = shape
    if backbone.source == "keras_cv":
        import keras_cv

        made = getattr(keras_cv.models, backbone.loads)
        return made(**backbone.configuration, include_rescaling=True, input_shape=(height, width, 3))
    import keras

    made = getattr(keras.applications, backbone.loads)
    try:
        return made(include_top=False, weights=None, input_shape=(height, width, 3))
    except ValueError as error:
        raise InvalidRecipe(f"{backbone.name} cannot take pictures of {width}×{height}: {error}") from error


def _prepared(pixels: Any, backbone: Backbone) -> Any:
    """Pixels 0–255 as the network wants them, in layers. KerasCV's rescale inside."""
    if backbone.source == "keras_cv":
        return pixels
    from models.fetching import wanted_pixels

    return wanted_pixels(pixels, PRESETS[backbone.name].pixels)


def _take_weights(network: Any, backbone: Backbone) -> None:
    """Give the network its published weights. Raises HubUnreachable, InvalidModel for a damaged cache."""
    trained = _published(backbone)
    # A classifier's weights begin with its backbone's, in the same order; its head's come after.
    given = [weight.numpy() for weight in trained.weights[: len(network.weights)]]
    try:
        network.set_weights(given)
    except ValueError as error:
        raise InvalidModel(
            f"{backbone.name}: the published weights are of another network ({str(error)[:300]}); pull its classifier "
            "and take that as the base."
        ) from error


def _published(backbone: Backbone) -> Any:
    """The network with its published weights, with or without a head behind it."""
    import keras

    from models.fetching import UNREACHABLE, fetch

    if backbone.classifier is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "preset.keras")
            request = {"preset": backbone.classifier, "file": file, "stall_s": STALL_S}
            try:
                fetch(request, lambda _text: None)
            except HubUnreachable as error:
                raise HubUnreachable(f"{error}\nThen take it as the base: --base {backbone.classifier}") from error
            return keras.models.load_model(file, compile=False)
    import keras_cv

    try:
        return getattr(keras_cv.models, backbone.loads).from_preset(backbone.hub)
    except UNREACHABLE as error:
        raise HubUnreachable(
            f"The weights of {backbone.name} could not be fetched: {str(error)[:600]}\n"
            "Here: pretrained=false trains it from nothing, and --base NAME takes a registered model."
        ) from error
