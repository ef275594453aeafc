"""Opens a checked model file with Keras, finds out what is needed to serve it, and writes the version that serves it.

A stranger's file is opened in the sandboxed child only; a model of our own training is written in the trainer.

Here is where "a Keras file" becomes "a classifier of pictures": one picture in, one row of class scores out; anything
else is refused in the words of what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.children import Progress
from models.conversion import convert
from models.errors import InvalidModel, ModelRefused
from models.label_search import Candidate, choose_labels
from models.labels import check_count, load_labels, save_labels
from models.manifest import Manifest, ModelVersion, Output, Preprocessing, Scale
from models.probe import load_probe, make_probe, save_probe
from models.wishes import NO_RESCALING, Overrides

LIBRARIES = ("keras", "tensorflow-cpu", "tensorflow", "keras-cv", "numpy", "openvino")
SUM_TOLERANCE = 1e-3  # of the probabilities of one picture
RECHECK_TOLERANCE = 1e-3  # between two machines' float32 answers
# What Keras and TensorFlow raise when a configuration, its weights or a shape is not what they expect.
KERAS_ERRORS = (ValueError, TypeError, LookupError, AttributeError, OSError, RuntimeError, tf.errors.OpError)
RESCALING_LAYERS = ("Rescaling", "Normalization")


def prepare(request: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
    """Open the file and fill `folder`/version with all that a model version needs. Answers notes for the person.

    request: `source`, `folder`, `name` and `number` (of the version to be), `overrides` (Overrides as JSON), `labels`
    (a list of Candidates as JSON).
    """
    source, folder = Path(request["source"]), Path(request["folder"])
    overrides = Overrides.from_json(request["overrides"])
    model = open_model(source)
    width, height, channels = find_input(model, overrides)
    classes = find_classes(model)
    labels = choose_labels([Candidate.from_json(candidate) for candidate in request["labels"]], classes)
    progress(f"{channels}-channel pictures of {width}×{height}, {classes} classes")

    notes = []
    if overrides.scale is None and not any(type(layer).__name__ in RESCALING_LAYERS for layer in all_layers(model)):
        notes.append(NO_RESCALING)
    preprocessing = overrides.preprocessing(width, height, channels)
    model = with_fixed_size(with_plain_ends(model), preprocessing)
    images = make_probe(preprocessing)
    raw = answers(model, images, preprocessing.scale)
    found = find_output(model, raw)
    output = overrides.output or found
    if output != found:
        notes.append(f"the model gives {found} by its looks, and is taken to give {output} as --output said")

    draft = draft_manifest(model, request["name"], preprocessing, output, request["number"])
    version = write_version(folder / "version", model, draft, labels, (images, probabilities(raw, output)))
    return {"notes": [*notes, *_compile(version, progress)]}


def draft_manifest(model: Any, name: str, preprocessing: Preprocessing, output: Output, number: int = 0) -> Manifest:
    """What a new version says of itself, as far as its model tells; the registry gives the number and the files."""
    return Manifest(
        name=name,
        version=number,
        preprocessing=preprocessing,
        output=output,
        classes=find_classes(model),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        libraries=_libraries(),
        parameters=int(model.count_params()),
    )


def write_version(
    folder: Path,
    model: Any,
    draft: Manifest,
    labels: Sequence[str],
    probe: tuple[NDArray[np.uint8], NDArray[np.float32]],
) -> ModelVersion:
    """Fill `folder` with all that a version needs but its compiled form; `probe` is pictures and probabilities."""
    folder.mkdir(exist_ok=True)
    model.save(folder / "model.keras")
    save_labels(labels, folder / "labels.json")
    save_probe(folder / "probe.npz", *probe)
    draft.save(folder / "manifest.json")
    return ModelVersion(folder, draft, tuple(labels))


def recheck(request: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
    """Open the model of an unpacked bundle and compare its answers with the probe in it, else raise ModelRefused.

    request: `source` (its model.keras), `version` (the unpacked folder).
    """
    folder = Path(request["version"])
    manifest = Manifest.load(folder / "manifest.json")
    model = open_model(Path(request["source"]))
    preprocessing = manifest.preprocessing
    found = (*find_input(model, Overrides(size=(preprocessing.width, preprocessing.height))), find_classes(model))
    said = (preprocessing.width, preprocessing.height, preprocessing.channels, manifest.classes)
    if found != said:
        raise InvalidModel(
            f"the bundle's manifest says width, height, channels, classes {said}; its model has {found}."
        )
    labels = load_labels(folder / "labels.json")
    check_count(labels, manifest.classes, "labels.json of the bundle")
    progress("comparing the model's answers with the bundle's")
    images, expected = load_probe(folder / "probe.npz")
    got = probabilities(answers(model, images, preprocessing.scale), manifest.output)
    if got.shape != expected.shape or not np.allclose(got, expected, atol=RECHECK_TOLERANCE):
        difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else float("nan")
        raise ModelRefused(
            f"the bundle's model does not answer as it did where it was exported (largest difference {difference:.3g}, "
            f"at most {RECHECK_TOLERANCE} is accepted)."
        )
    return {"notes": _compile(ModelVersion(folder, manifest, labels), progress)}


def _compile(version: ModelVersion, progress: Progress) -> Sequence[str]:
    """Make the compiled form here, where TensorFlow runs already; a model without one still suits Keras's engine."""
    progress("compiling")
    try:
        convert(version)
    except InvalidModel as error:
        return [f"no compiled form: {error}"]
    return []


def open_model(source: Path) -> Any:
    """The Keras model in a file, without its training set-up. Raises InvalidModel with Keras's own words."""
    try:
        return keras.models.load_model(source, compile=False, safe_mode=True)
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError from error
    except KERAS_ERRORS as error:
        raise InvalidModel(f"{source.name}: Keras {keras.__version__} cannot open it: {_words(error)}") from error


def find_input(model: Any, overrides: Overrides) -> tuple[int, int, int]:
    """Width, height and channels of the one picture that the model takes.

    Raises InvalidModel that says what it takes instead.
    """
    shape = _only(_tensors(model, "inputs"), "input").shape
    if len(shape) != 4:
        raise InvalidModel(
            f"The model must take pictures of shape (height, width, channels); its input has the shape {_text(shape)}."
        )
    _, height, width, channels = shape
    if channels not in (1, 3):
        hint = " It looks like channels-first; build it with channels_last." if shape[1] in (1, 3) else ""
        raise InvalidModel(
            "The model must take pictures of 3 channels (RGB) or 1 (grey), last; its input has the shape "
            f"{_text(shape)}.{hint}"
        )
    said = overrides.size or (None, None)
    size = (width or said[0], height or said[1])
    if size[0] is None or size[1] is None:
        raise InvalidModel(
            f"The model takes pictures of any size ({_text(shape)}); say which one with --size, as in --size 224."
        )
    if overrides.size is not None and size != overrides.size:
        raise InvalidModel(f"The model takes pictures of {size[0]}×{size[1]} only; --size said {said[0]}×{said[1]}.")
    return int(size[0]), int(size[1]), int(channels)


def find_classes(model: Any) -> int:
    """How many classes the model tells apart. Raises InvalidModel where its output is no row of class scores."""
    shape = _only(_tensors(model, "outputs"), "output").shape
    if len(shape) != 2 or shape[1] is None:
        raise InvalidModel(
            "The model must answer with one score per class, shape (classes,); its output has the shape "
            f"{_text(shape)}. "
            "A feature extractor needs a Dense layer on top."
        )
    if shape[1] < 2:
        raise InvalidModel(
            "The model has a single output. Pixmill needs one per class: end a two-class model in Dense(2, "
            "activation='softmax')."
        )
    return int(shape[1])


def find_output(model: Any, raw: NDArray[np.float32]) -> Output:
    """Whether the model ends in probabilities or logits: by its last layer and, where that is no help, its answers."""
    layer = _last_operation(model)
    activation = getattr(getattr(layer, "activation", None), "__name__", type(layer).__name__.lower())
    if activation in ("softmax", "sigmoid"):
        return "probabilities"
    sums = raw.sum(axis=1, dtype=np.float64)
    looks_so = raw.min() >= 0 and raw.max() <= 1 and bool(np.all(np.abs(sums - 1) < SUM_TOLERANCE))
    return "probabilities" if looks_so else "logits"


def answers(model: Any, images: NDArray[np.uint8], scale: Scale) -> NDArray[np.float32]:
    """The model's own answers, float32 [N, classes]. Raises InvalidModel where they are no numbers."""
    divisor, offset = {"0-255": (1.0, 0.0), "0-1": (255.0, 0.0), "-1-1": (127.5, 1.0)}[scale]
    pixels = (images / divisor - offset).astype(np.float32)
    try:
        raw = np.asarray(keras.ops.convert_to_numpy(model(pixels, training=False)), dtype=np.float32)
    except KERAS_ERRORS as error:
        raise InvalidModel(f"The model fails on test pictures of shape {images.shape[1:]}: {_words(error)}") from error
    if not np.isfinite(raw).all():
        raise InvalidModel(
            "The model answers test pictures with NaN or infinity; its weights are broken, or --scale is wrong."
        )
    return raw


def probabilities(raw: NDArray[np.float32], output: Output) -> NDArray[np.float32]:
    """Softmax where the model ends in logits."""
    if output == "probabilities":
        return raw
    wide = raw.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def with_plain_ends(model: Any) -> Any:
    """The model itself, or where it takes or gives a list or dictionary of one, the same graph without that."""
    if any(keras.tree.is_nested(getattr(model, end, None)) for end in ("input", "output")):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return model


def with_fixed_size(model: Any, preprocessing: Preprocessing) -> Any:
    """The model itself, or where it takes any size, one around it that takes this one: compiled forms need it."""
    if None not in model.inputs[0].shape[1:]:
        return model
    picture = keras.Input((preprocessing.height, preprocessing.width, preprocessing.channels), name="picture")
    return keras.Model(picture, model(picture), name=f"{model.name}_fixed")


def all_layers(model: Any) -> Iterator[Any]:
    """Every layer, also those of models within the model."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from all_layers(layer)


def _last_operation(model: Any) -> Any:
    """The layer that makes the model's answer, also where it sits in a model within the model."""
    operation = model.outputs[0]._keras_history.operation
    return _last_operation(operation) if getattr(operation, "outputs", None) else operation


def _tensors(model: Any, what: str) -> Sequence[Any]:
    try:
        tensors = getattr(model, what)
    except (AttributeError, ValueError):
        tensors = None
    if not tensors:
        raise InvalidModel(f"The model does not say what its {what} are; build it with keras.Input and save it again.")
    return list(tensors)


def _only(tensors: Sequence[Any], what: str) -> Any:
    if len(tensors) == 1:
        return tensors[0]
    shapes = ", ".join(f"{tensor.name} {_text(tensor.shape)}" for tensor in tensors)
    raise InvalidModel(f"The model must have one {what}; it has {len(tensors)}: {shapes}.")


def _words(error: Exception) -> str:
    """The beginning of what an error says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _text(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if side is None else str(side) for side in shape[1:]) + ")"


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ImportError:
            continue
    return found
