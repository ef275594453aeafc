"""Model files that mean harm, one for each way that is known, with what is said when they are refused.

Several know a canary: a file, and a port of this machine, that no model has any business with.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.hostile_files import LAMBDA, hostile_files
from tests.models.hostile_kinds import Canary, Hostile
from tests.models.hostile_weights import hostile_weights
from tests.models.keras_files import keras_file, layer, sequential

HEAD = layer("Dense", name="dense", units=2, activation="softmax")


def hostile_models() -> Mapping[str, Hostile]:
    """Every hostile file by what it does."""
    return {**_configurations(), **_archives(), **hostile_files(), **hostile_weights()}


def _config(word: str, make: Callable[[Canary], Any]) -> Hostile:
    """A `.keras` file with this configuration."""
    return Hostile(lambda folder, canary: keras_file(folder / "m.keras", make(canary)), word)


def _layer(
    word: str, class_name: str, module: str = "keras.layers", registered: str | None = None, **config: Any
) -> Hostile:
    return _config(word, lambda _: sequential(layer("Flatten"), layer(class_name, module, registered, **config), HEAD))


def _function(name: str, module: str, registered: str | None = None) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": registered or name}


def _configurations() -> dict[str, Hostile]:
    """What `config.json` can name."""
    return {
        "a Lambda layer": _layer("Lambda", "Lambda", function=LAMBDA),
        "a Lambda under Keras's inner module": _layer("Lambda", "Lambda", "keras.src.layers.core.lambda_layer"),
        "Python code as an activation": _layer("__lambda__", "Dense", units=2, activation=LAMBDA),
        "a Lambda inside a wrapper": _layer("Lambda", "TimeDistributed", layer=layer("Lambda", function=LAMBDA)),
        "a Lambda in build_config": _config(
            "Lambda", lambda _: {**sequential(HEAD), "build_config": {"input_shape": [layer("Lambda")]}}
        ),
        "a Lambda as a model's input": _config(
            "Lambda",
            lambda _: layer("Functional", "keras", layers=[], input_layers=[layer("Lambda", function=LAMBDA)]),
        ),
        "a Lambda under a registered name": _layer("Lambda", "Dense", registered="mine>Lambda", units=2),
        "a type by its name": _layer("__typespec__", "Dense", spec={"class_name": "__typespec__", "config": []}),
        "a SavedModel inside": _config("TFSMLayer", lambda _: sequential(layer("TFSMLayer", filepath="saved"))),
        "a SavedModel by its address": _config(
            "TFSMLayer", lambda canary: sequential(layer("TFSMLayer", filepath=canary.address))
        ),
        "words read from a file": _config(
            "StringLookup", lambda canary: sequential(layer("StringLookup", vocabulary=str(canary.file)))
        ),
        "numbers read from a file": _config(
            "IntegerLookup", lambda canary: sequential(layer("IntegerLookup", vocabulary=str(canary.file)))
        ),
        "a text's words read from an address": _config(
            "TextVectorization", lambda canary: sequential(layer("TextVectorization", vocabulary=canary.address))
        ),
        "pickled PyTorch": _layer("TorchModuleWrapper", "TorchModuleWrapper", module_="gASVAAA="),
        "serialized JAX": _layer("JaxLayer", "JaxLayer", "keras.src.utils.jax_layer", call_fn="x"),
        "serialized Flax": _layer("FlaxLayer", "FlaxLayer", "keras.src.utils.jax_layer", module_="x"),
        "a table's features": _layer("FeatureSpace", "FeatureSpace", "keras.utils"),
        "a program": _layer("'subprocess'", "Popen", "subprocess", args=["id"]),
        "a shell": _layer("'os'", "system", "os", command="id"),
        "a package of its own": _layer("'evil_layers'", "Dense", "evil_layers", units=2),
        "a package that looks like Keras": _layer("'keras_evil.layers'", "Dense", "keras_evil.layers", units=2),
        "a module beside Keras's layers": _layer(
            "'keras.src.utils.file_utils'", "get_file", "keras.src.utils.file_utils"
        ),
        "Keras's own saving": _layer("'keras.src.saving.saving_lib'", "load_model", "keras.src.saving.saving_lib"),
        "KerasCV's downloads": _layer(
            "'keras_cv.src.utils.preset_utils'", "get_file", "keras_cv.src.utils.preset_utils"
        ),
        "KerasNLP, which Keras would import": _layer("'keras_nlp.layers'", "Dense", "keras_nlp.layers"),
        "a module with a path in it": _layer("layers/../utils", "Dense", "keras.src.layers/../utils"),
        "a function that evaluates": _layer("module 'os'", "Dense", units=2, activation=_function("eval", "os")),
        "a function that opens models": _layer(
            "load_model", "Dense", units=2, activation=_function("load_model", "keras.models")
        ),
        "a function under a registered name": _layer(
            "evil>f", "Dense", units=2, activation=_function("f", "builtins", "evil>f")
        ),
        "another's class under a registered name": _layer("evil>Dense", "Dense", registered="evil>Dense", units=2),
        "KerasCV's class under another name": _layer(
            "registered", "ImageClassifier", "keras_cv.src.models", "keras_cv.models>Other"
        ),
        "a class whose name is code": _layer("name of a class", "__import__('os')"),
        "a class whose name is a list": _config("name of a class", lambda _: sequential({"class_name": ["Dense"]})),
        "no module": _config("module 'None'", lambda _: sequential({"class_name": "Dense", "config": {"units": 2}})),
        "a path in a value": _config("path", lambda canary: sequential(layer("Dense", name=str(canary.file)))),
        "a path in a key": _config("path", lambda canary: sequential(layer("Dense", loads={str(canary.file): 1}))),
        "a path that climbs": _layer("path", "Dense", name="weights/../../secret/canary"),
        "an address": _config("address", lambda canary: sequential(layer("Dense", name=canary.address))),
        "an address of a bucket": _layer("address", "Dense", name="gs://bucket/x"),
        "the home folder": _layer("path", "Dense", name="~/.ssh/id_rsa"),
        "code in a dtype policy": _layer(
            "'builtins.exec'", "Dense", dtype={"class_name": "exec", "module": "builtins.exec", "config": {}}
        ),
        "code in a quantization": _layer("Lambda", "Dense", quantization_config=layer("Lambda", function=LAMBDA)),
        "nested without end": _config("nested", lambda _: _nested(200)),
        "brackets without end": _config("not JSON", lambda _: b"[" * 200_000),
        "a number of a million digits": _config("not JSON", lambda _: b'{"x": ' + b"9" * 1_000_000 + b"}"),
    }


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def _zip(change: Callable[[zipfile.ZipFile], None], word: str, **options: Any) -> Hostile:
    """A good `.keras` file to whose zip something is done."""

    def make(folder: Path, canary: Canary) -> Path:
        file = keras_file(folder / "m.keras", **options)
        with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
            warnings.simplefilter("ignore")  # zipfile warns of names that are there twice
            change(archive)
        return file

    return Hostile(make, word)


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("assets")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def _archives() -> dict[str, Hostile]:
    """What a zip can be."""
    return {
        "a zip that climbs": _zip(lambda archive: archive.writestr("../evil.py", "x"), "../evil.py"),
        "a zip with an absolute path": _zip(lambda archive: archive.writestr("/tmp/evil.py", "x"), "evil.py"),
        "a zip with a link": _zip(_link, "assets"),
        "a zip with a vocabulary": _zip(lambda archive: archive.writestr("assets/vocabulary.txt", "x"), "vocabulary"),
        "a zip with a file twice": _zip(
            lambda archive: archive.writestr("config.json", json.dumps(sequential(layer("Lambda")))), "exactly"
        ),
        "a zip in a zip": _zip(lambda archive: archive.writestr("inner.keras", b"PK\5\6" + bytes(18)), "inner.keras"),
        "a configuration that grows": Hostile(
            lambda folder, _: keras_file(
                folder / "m.keras", sequential(layer("Dense", name="x" * 5_000_000)), compression=zipfile.ZIP_DEFLATED
            ),
            "bomb",
        ),
        "weights that grow": Hostile(_zip_bomb, "bomb"),
        "a directory that lies about sizes": Hostile(_lying_zip, "not a readable .keras file"),
        "a file of Keras 2": Hostile(
            lambda folder, _: keras_file(folder / "m.keras", metadata={"keras_version": "2.15.0"}), "Keras 2.15.0"
        ),
        "a version that is no text": Hostile(
            lambda folder, _: keras_file(folder / "m.keras", metadata={"keras_version": {"x": [1]}}), "Keras {"
        ),
        "a zip that is cut": Hostile(_cut_zip, "ends early"),
    }


def _zip_bomb(folder: Path, _canary: Canary) -> Path:
    return keras_file(
        folder / "m.keras",
        weights=lambda file: file.create_dataset("zeros", data=np.zeros(2_000_000, np.float32)),
        compression=zipfile.ZIP_DEFLATED,
    )


def _lying_zip(folder: Path, _canary: Canary) -> Path:
    """The directory says that the configuration has other bytes than are there."""
    file = keras_file(folder / "m.keras")
    data = bytearray(file.read_bytes())
    at = data.rindex(b"config.json") - 46
    data[at + 16 : at + 20] = b"\1\2\3\4"  # its checksum
    file.write_bytes(data)
    return file


def _cut_zip(folder: Path, _canary: Canary) -> Path:
    file = keras_file(folder / "m.keras")
    file.write_bytes(file.read_bytes()[:-40])
    return file
