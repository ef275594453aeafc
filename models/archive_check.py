"""Static checks on a `.keras` file from outside: what must be true before Keras may open it. Imports no Keras.

A model file is code in disguise: Keras finds classes by the names in `config.json`, and every few weeks a new name is
found that does harm. So nothing is trusted that is not expected: the members of the zip, the modules and classes of the
configuration, its words. `models.weights_check` does the same for the weights.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InvalidModel
from models.files import BROKEN_ZIP

MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
MAX_JSON_BYTES = 64 * 2**20  # the configuration of the largest Keras application has 2 MiB
MAX_EXPANSION = 20  # Keras stores its members uncompressed; a file zipped again shrinks weights by a tenth
MAX_DEPTH = 60  # of nested objects in the configuration; a model within a model within a model needs about thirty
SHOWN = 80  # characters of a refused value that the message repeats

# The modules in which Keras and KerasCV keep what a classifier can be made of.
PARTS = (
    "activations|constraints|dtype_policies|initializers|layers|losses|metrics|models|ops|optimizers|quantizers|random"
    "|regularizers"
)
MODULES = re.compile(
    rf"builtins|keras|keras\.({PARTS})|keras\.optimizers\.schedules|keras\.src\.({PARTS}|applications)(\.[a-z0-9_]+)*"
    r"|keras_cv\.(layers|models)|keras_cv\.src\.(layers|models)(\.[a-z0-9_]+)*"
)
# Where the functions come from that a layer may name. Elsewhere, as under keras.models, are some that open files.
FUNCTION_MODULES = re.compile(
    r"builtins|keras\.(src\.)?(activations|constraints|initializers|losses|metrics|ops|random|regularizers)(\.[a-z0-9_]+)*"
)
# Names that Keras itself can resolve in those modules, but that run code, read files, or are no part of a classifier.
FORBIDDEN = {
    "Lambda": "it carries Python code",
    "__lambda__": "it carries Python code",
    "__typespec__": "it can name any class",
    "TFSMLayer": "it loads another model from disk",
    "TorchModuleWrapper": "it unpickles Python objects",
    "JaxLayer": "it carries serialized code",
    "FlaxLayer": "it carries serialized code",
    "StringLookup": "it can read files; a classifier of pictures needs no words",
    "IntegerLookup": "it can read files; a classifier of pictures needs no words",
    "TextVectorization": "it can read files; a classifier of pictures needs no words",
    "HashedCrossing": "a classifier of pictures needs no words",
    "Hashing": "a classifier of pictures needs no words",
    "FeatureSpace": "a classifier of pictures needs no tables",
}
# Objects that Keras writes without a module.
PLAIN_CLASSES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CLIMBING_PATH = re.compile(r"(^|[\\/])\.\.([\\/]|$)")
WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]")

INSTEAD = {
    ".h5": "load it where it was made and save it as .keras: `keras.models.load_model('m.h5').save('m.keras')`",
    ".hdf5": "load it where it was made and save it as .keras: `keras.models.load_model('m.hdf5').save('m.keras')`",
    ".pb": "save the Keras model itself where it was made: `model.save('m.keras')`",
    ".onnx": "only Keras models can be imported; save the Keras model itself: `model.save('m.keras')`",
    ".tflite": "only Keras models can be imported; save the Keras model itself: `model.save('m.keras')`",
    ".pkl": "a pickle runs code when it is opened; save the Keras model itself: `model.save('m.keras')`",
    ".pickle": "a pickle runs code when it is opened; save the Keras model itself: `model.save('m.keras')`",
    ".pt": "only Keras models can be imported; save the Keras model itself: `model.save('m.keras')`",
    ".pth": "only Keras models can be imported; save the Keras model itself: `model.save('m.keras')`",
}


@dataclass(frozen=True, slots=True)
class ArchiveFacts:
    """What the file says of itself: its Keras version, and class names where somebody put them into the metadata."""

    keras_version: str
    class_names: tuple[str, ...]


def check_archive(file: Path) -> ArchiveFacts:
    """Check the zip and its configuration, without Keras and without unpacking. Raises InvalidModel with what to do."""
    _check_kind(file)
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(archive, file)
            metadata = _json(archive, "metadata.json", file)
            config = _json(archive, "config.json", file)
    except BROKEN_ZIP as error:
        raise InvalidModel(f"{file}: not a readable .keras file ({error}); copy it again or save it again.") from error
    version = str(metadata.get("keras_version", "unknown"))[:20]
    if not version.startswith("3."):
        raise InvalidModel(
            f"{file}: saved by Keras {version}; a file of Keras 3 is needed. Load it where it was made and save it "
            "with Keras 3."
        )
    check_config(config, file)
    return ArchiveFacts(version, _class_names(metadata))


def check_config(config: Mapping[str, Any], source: object) -> None:
    """Check every module, class and string of a model's configuration against what a classifier may hold.

    The training set-up at the top (`compile_config`: a loss of one's own, for example) is not looked at: Keras opens
    the file with compile=False and drops it. Raises InvalidModel.
    """
    for value in _walk({**config, "compile_config": None}, source):
        if isinstance(value, str):
            _check_string(value, source)
        elif "class_name" in value:
            _check_object(value, source)


def unpack_weights(file: Path, folder: Path) -> Path:
    """Unpack the weights of a checked archive into a folder, for `weights_check`. Raises InvalidModel."""
    try:
        with zipfile.ZipFile(file) as archive:
            return Path(archive.extract("model.weights.h5", folder))
    except BROKEN_ZIP as error:
        raise InvalidModel(
            f"{file.name}: its weights are damaged ({error}); copy it again or save it again."
        ) from error


def _check_kind(file: Path) -> None:
    if file.is_dir():
        raise InvalidModel(
            f"{file}: a folder (a SavedModel?) cannot be imported; save the Keras model itself: "
            "`model.save('m.keras')`."
        )
    if not file.is_file():
        raise InvalidModel(f"{file}: no such file.")
    if file.suffix.lower() != ".keras":
        instead = INSTEAD.get(file.suffix.lower(), "save the Keras model with `model.save('m.keras')`")
        raise InvalidModel(f"{file}: only .keras files can be imported; {instead}.")
    if not _is_zip(file):
        with file.open("rb") as opened:
            begins_well = opened.read(2) == b"PK"
        if begins_well or not file.stat().st_size:
            raise InvalidModel(f"{file}: the file is empty or ends early; copy or save it again.")
        raise InvalidModel(
            f"{file}: not a .keras file inside (no zip archive). An .h5 file that was renamed? Load it where it was "
            "made and "
            "save it again: `model.save('m.keras')`."
        )


def _is_zip(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except BROKEN_ZIP:  # of a directory that only begins well; opening it says what is wrong
        return True


def _check_members(archive: zipfile.ZipFile, file: Path) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    if sorted(names) != sorted(MEMBERS):
        shown = ", ".join(repr(name[:SHOWN]) for name in names[:10])
        raise InvalidModel(f"{file}: a .keras file holds exactly {', '.join(MEMBERS)}; this one holds {shown}.")
    for member in members:
        if member.flag_bits & 1:
            raise InvalidModel(f"{file}: {member.filename} is encrypted.")
        if member.file_size > MAX_EXPANSION * max(member.compress_size, 2**10):
            raise InvalidModel(
                f"{file}: {member.filename} would grow from {member.compress_size} to {member.file_size} bytes; "
                "that is a zip bomb, not a model."
            )


def _json(archive: zipfile.ZipFile, name: str, file: Path) -> Mapping[str, Any]:
    size = archive.getinfo(name).file_size
    if size > MAX_JSON_BYTES:
        raise InvalidModel(f"{file}: {name} has {size} bytes; at most {MAX_JSON_BYTES} are read.")
    try:
        facts = json.loads(archive.read(name))
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{file}: {name} is not JSON ({error}).") from error
    if not isinstance(facts, dict):
        raise InvalidModel(f"{file}: {name} should be a JSON object; got {type(facts).__name__}.")
    return facts


def _walk(value: Any, source: object, depth: int = 0) -> Iterator[str | Mapping[str, Any]]:
    """Every string (keys too) and every object of a JSON value."""
    if depth > MAX_DEPTH:
        raise InvalidModel(f"{source}: the configuration is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield value
        for key, inner in value.items():
            yield key
            yield from _walk(inner, source, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, source, depth + 1)


def _check_string(text: str, source: object) -> None:
    if "://" in text or text.startswith(("/", "~", "\\")) or WINDOWS_PATH.match(text) or CLIMBING_PATH.search(text):
        raise InvalidModel(
            f"{source}: the configuration names a path or address, {text[:SHOWN]!r}; a classifier needs none."
        )


def _check_object(facts: Mapping[str, Any], source: object) -> None:
    name, module, registered = (facts.get(key) for key in ("class_name", "module", "registered_name"))
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise InvalidModel(f"{source}: expected the name of a class; got {str(name)[:SHOWN]!r}.")
    for said in (name, _last_part(registered), facts.get("config") if name == "function" else None):
        if isinstance(said, str) and said in FORBIDDEN:
            raise InvalidModel(
                f"{source}: {said} cannot be imported: {FORBIDDEN[said]}. Replace it by plain Keras layers and save "
                "again."
            )
    if name in PLAIN_CLASSES:
        return
    if not isinstance(module, str) or not MODULES.fullmatch(module):
        raise InvalidModel(
            f"{source}: the class {name} of module {str(module)[:SHOWN]!r} is not part of Keras or KerasCV; "
            "only their own layers can be imported. Replace it by plain Keras layers and save again."
        )
    _check_registered(name, module, registered, source)
    if name == "function":
        _check_function(facts.get("config"), module, source)


def _check_function(name: object, module: str, source: object) -> None:
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise InvalidModel(f"{source}: expected the name of a Keras function; got {str(name)[:SHOWN]!r}.")
    if not FUNCTION_MODULES.fullmatch(module):
        raise InvalidModel(f"{source}: the function {name[:SHOWN]} of {module} is none that a layer computes with.")


def _check_registered(name: str, module: str, registered: Any, source: object) -> None:
    """A registered name is looked up before the module: it must name the same class of the same library."""
    if registered is None or registered == name:
        return
    package, _, _ = str(registered).rpartition(">")
    in_keras_cv = module.startswith("keras_cv.") and package.startswith("keras_cv") and _last_part(registered) == name
    if not in_keras_cv and name != "function":
        raise InvalidModel(
            f"{source}: the class {name} is registered as {str(registered)[:SHOWN]!r}, which is not part of Keras "
            "or KerasCV."
        )
    if name == "function" and ">" in str(registered):
        raise InvalidModel(f"{source}: the function {str(registered)[:SHOWN]!r} is not part of Keras.")


def _last_part(registered: Any) -> str:
    return str(registered).rpartition(">")[2]


def _class_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    names = metadata.get("class_names", metadata.get("labels", ()))
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
