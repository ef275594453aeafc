"""A child with Keras in it: cuts, grafts and finishes models, and compares each with Keras's own answers.

request: `small` (the folder of tests/models/small_models.py), `folder` (to write to), and `mobilenet` (a file, or
nothing). Answers a text by the name of each check: the traceback where it failed, nothing where it passed. Leaves
`<folder>/mobilenet`, a version with its compiled form.
"""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from models.card import TrainingFacts
from models.children import Progress, answer_with
from models.conversion import read_version
from models.engines.keras import KerasEngine
from models.engines.loading import load_engine
from models.errors import InvalidModel, ModelError
from models.manifest import ModelVersion, Preprocessing
from models.opening import answers
from models.probe import make_probe
from models.recipes import RegularizationChoice
from models.registry import Registry
from models.training.cutting import assemble, build_head, cut, with_scale
from models.training.features import FeatureEngine, check_features
from models.training.finishing import Trained, finish
from models.training.grafting import Graft

SMALL = Preprocessing(32, 32)
CLASSES = 4


def backbone_of(version: ModelVersion) -> Any:
    model = keras.models.load_model(version.path / "model.keras", compile=False)
    return with_scale(cut(model), version.manifest.preprocessing.scale)


def keras_features(backbone: Any) -> Callable[[Any], Any]:
    return lambda images: np.asarray(backbone(images.astype(np.float32), training=False))


def trained_head(features: int, stddev: float = 1.0) -> Any:
    head = build_head(features, CLASSES, RegularizationChoice(dropout=0.5), seed=3)
    generator = np.random.default_rng(4)
    shapes = (features, CLASSES), (CLASSES,)
    head.get_layer("predictions").set_weights([generator.normal(0, stddev, shape) for shape in shapes])
    return head


def finish_on(base: ModelVersion, folder: Path) -> tuple[Any, Graft, ModelVersion]:
    """A head on a base, finished with its graft: the Keras model, the graft, and the version."""
    backbone = backbone_of(base)
    head = trained_head(int(backbone.output.shape[-1]))
    model = assemble(backbone, head)
    model.compile("adam", "categorical_crossentropy")
    model.optimizer.build(head.trainable_variables)
    kernel, bias = head.get_layer("predictions").get_weights()
    graft = Graft(base, kernel, bias)
    preprocessing = replace(base.manifest.preprocessing, scale="0-255")
    facts = TrainingFacts("1", {"train": 8}, "head", 2, 1, "val_loss", 0.5, 1.0)
    trained = Trained("pets", ("a", "b", "c", "d"), preprocessing, {"base": base.reference}, facts)
    finish(model, trained, folder, graft)
    return model, graft, read_version(folder)


def refusal(run: Callable[[], object]) -> str:
    """What the refusal says; nothing where there was none."""
    try:
        run()
    except InvalidModel as error:
        return str(error)
    return ""


def features_are_those_of_keras(small: Path, folder: Path) -> None:
    for kind in ("rgb", "grey_logits", "many_classes"):
        version = read_version(small / kind)
        engine = FeatureEngine(version, "f32")
        drift = check_features(engine, version, keras_features(backbone_of(version)))
        assert drift < 1e-4, f"{kind}: {drift}"
        engine.close()


def a_grafted_version_answers_as_keras_and_is_complete(small: Path, folder: Path) -> None:
    for kind in ("rgb", "grey_logits", "many_classes"):
        model, _, version = finish_on(read_version(small / kind), folder / f"grafted-{kind}")
        assert version.manifest.lineage == {"base": f"{kind}@1", "notes": []}, version.manifest.lineage
        assert version.manifest.output == "probabilities"
        assert (version.path / "card.md").read_text().startswith("# pets\n")
        images = make_probe(version.manifest.preprocessing, n=64, seed=9)
        expected = answers(model, images, "0-255")
        for engine in (load_engine(version, "openvino", precision="f32"), KerasEngine(version)):
            size = engine.batch_size
            parts = [engine.predict(images[at : at + size]) for at in range(0, 64, size)]
            indices, scores = (np.concatenate([part[which] for part in parts]) for which in (0, 1))
            assert indices.shape == (64, CLASSES)
            assert np.allclose(scores, np.take_along_axis(expected, indices, 1), atol=2e-5), f"{kind}: {engine.name}"
            assert np.array_equal(indices[:, 0], expected.argmax(1)), f"{kind}: {engine.name}"


def a_finished_version_is_what_the_registry_takes_and_holds_no_optimizer(small: Path, folder: Path) -> None:
    _, _, version = finish_on(read_version(small / "rgb"), folder / "registered")
    registry = Registry(folder / "models")
    added = registry.add(version.path, version.manifest)
    assert added.reference == "pets@1"
    registry.verify(added)
    assert not keras.models.load_model(added.path / "model.keras").compiled


def a_graft_that_answers_otherwise_gives_way_to_a_conversion(small: Path, folder: Path) -> None:
    """The kernel of the graft has two classes swapped: only the comparison with Keras can tell."""
    base = read_version(small / "rgb")
    model, graft, _ = finish_on(base, folder / "right")
    wrong = Graft(base, graft.kernel[:, [1, 0, 2, 3]], graft.bias)
    finish(model, Trained("pets", ("a", "b", "c", "d"), SMALL), folder / "wrong", wrong)
    version = read_version(folder / "wrong")
    (note,) = version.manifest.lineage["notes"]
    assert note.startswith("converted, as the head could not be put on the compiled form of rgb@1: pets@0"), note
    load_engine(version, "openvino").close()


def a_convolution_as_head_is_cut_and_grafted(small: Path, folder: Path) -> None:
    """As older Keras applications end: a 1×1 convolution, flattened, and the softmax as a layer of its own."""
    picture = keras.Input((32, 32, 3))
    x = layers.Conv2D(12, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(picture))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Flatten()(layers.Conv2D(5, 1)(x))
    model = keras.Model(picture, layers.Softmax()(x))
    finish(model, Trained("conv", tuple("abcde"), SMALL), folder / "conv")
    version = read_version(folder / "conv")
    engine = FeatureEngine(version, "f32")
    assert engine.features == 12
    assert check_features(engine, version, keras_features(cut(model))) < 1e-4
    _, _, grafted = finish_on(version, folder / "conv-grafted")
    assert grafted.manifest.lineage["notes"] == []


def features_that_openvino_folded_are_found_out(small: Path, folder: Path) -> None:
    """A normalisation before the last dense layer: OpenVINO may multiply it into that layer's kernel."""
    picture = keras.Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 255)(picture)))
    normal = layers.BatchNormalization()
    model = keras.Model(picture, layers.Dense(3, activation="softmax")(normal(x)))
    normal.set_weights([np.full(6, value, np.float32) for value in (3.0, -2.0, 0.1, 0.01)])
    finish(model, Trained("folded", tuple("abc"), SMALL), folder / "folded")
    version = read_version(folder / "folded")
    engine = FeatureEngine(version, "f32")
    assert refusal(lambda: check_features(engine, version, keras_features(cut(model)))) == ""
    before = keras.Model(picture, x)  # what a folded graph would give
    assert "differ from Keras's" in refusal(lambda: check_features(engine, version, keras_features(before)))


def a_trained_model_that_openvino_cannot_express_is_finished_without_a_compiled_form(small: Path, folder: Path) -> None:
    picture = keras.Input((16, 16, 1))
    values = keras.ops.svd(keras.ops.squeeze(layers.Rescaling(1 / 255)(picture), axis=-1), compute_uv=False)
    model = keras.Model(picture, layers.Dense(3, activation="softmax")(values))
    manifest = finish(model, Trained("svd", tuple("abc"), Preprocessing(16, 16, 1)), folder / "svd")
    assert manifest.lineage["notes"][0].startswith("no compiled form: "), manifest.lineage
    assert not (folder / "svd" / "openvino").exists()


def what_does_not_fit_is_refused(small: Path, folder: Path) -> None:
    picture = keras.Input((32, 32, 3))
    dense = layers.Dense(2, activation="softmax")
    model = keras.Model(picture, dense(layers.Flatten()(picture)))
    broken = keras.models.clone_model(model)
    broken.layers[-1].set_weights([np.full_like(weight, np.nan) for weight in dense.get_weights()])
    refused = {
        "2 classes": (model, Trained("x", ("a",), SMALL)),
        "pictures of": (model, Trained("x", ("a", "b"), replace(SMALL, width=48))),
        "channels": (model, Trained("x", ("a", "b"), replace(SMALL, channels=1))),
        "NaN": (broken, Trained("x", ("a", "b"), SMALL)),
    }
    for word, (given, trained) in refused.items():
        said = refusal(partial(finish, given, trained, folder / "refused"))
        assert word in said, f"expected {word!r} in {said!r}"
    assert not (folder / "refused").exists()


CHECKS: Mapping[str, Callable[[Path, Path], None]] = {
    function.__name__: function
    for function in (
        features_are_those_of_keras,
        a_grafted_version_answers_as_keras_and_is_complete,
        a_finished_version_is_what_the_registry_takes_and_holds_no_optimizer,
        a_graft_that_answers_otherwise_gives_way_to_a_conversion,
        a_convolution_as_head_is_cut_and_grafted,
        features_that_openvino_folded_are_found_out,
        a_trained_model_that_openvino_cannot_express_is_finished_without_a_compiled_form,
        what_does_not_fit_is_refused,
    )
}


def outcome(run: Callable[[Path, Path], None], small: Path, folder: Path) -> str:
    """Nothing, or the traceback: the failure of one check must not hide the others'."""
    try:
        run(small, folder)
    except (AssertionError, ModelError, ValueError, TypeError, OSError, LookupError):
        return traceback.format_exc()
    return ""


def work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    folder = Path(request["folder"])
    report = {name: outcome(run, Path(request["small"]), folder) for name, run in CHECKS.items()}
    if request["mobilenet"]:
        model = keras.models.load_model(request["mobilenet"], compile=False)
        labels = tuple(f"class {index}" for index in range(1000))
        finish(model, Trained("mobilenet", labels, Preprocessing()), folder / "mobilenet")
    return report


if __name__ == "__main__":
    answer_with(work)
