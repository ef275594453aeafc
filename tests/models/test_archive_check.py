import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest

from models.archive_check import MAX_DEPTH, check_archive, check_config
from models.errors import InvalidModel
from tests.models.keras_files import METADATA, keras_file, layer, sequential


def test_a_plain_keras_file_passes_and_says_its_version(tmp_path: Path) -> None:
    facts = check_archive(keras_file(tmp_path / "m.keras"))
    assert (facts.keras_version, facts.class_names) == ("3.15.1", ())


def test_class_names_in_the_metadata_are_found(tmp_path: Path) -> None:
    metadata = {**METADATA, "class_names": ["owl", "tit"]}
    assert check_archive(keras_file(tmp_path / "m.keras", metadata=metadata)).class_names == ("owl", "tit")


def test_the_real_mobilenet_passes(shared_data: Path) -> None:
    assert check_archive(shared_data / "mobilenet_v2_imagenet.keras").keras_version.startswith("3.")


def test_the_check_needs_no_framework() -> None:
    code = "import sys, models.archive_check; print(sorted({'keras','tensorflow','h5py','numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("m.h5", r"load_model\('m\.h5'\)\.save"),
        ("m.hdf5", "save it as .keras"),
        ("m.pkl", "a pickle runs code"),
        ("m.pb", "save the Keras model itself"),
        ("m.onnx", "only Keras models"),
        ("m.pt", "only Keras models"),
        ("m", r"model\.save"),
    ],
)
def test_another_kind_of_file_is_refused_with_what_to_do(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(InvalidModel, match=advice):
        check_archive(tmp_path / name)


def test_a_saved_model_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="SavedModel"):
        check_archive(tmp_path)
    with pytest.raises(InvalidModel, match="no such file"):
        check_archive(tmp_path / "none.keras")


def test_an_h5_file_renamed_to_keras_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 600)
    with pytest.raises(InvalidModel, match="renamed"):
        check_archive(tmp_path / "m.keras")


def test_a_file_of_keras_2_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"Keras 2\.15\.0"):
        check_archive(keras_file(tmp_path / "m.keras", metadata={"keras_version": "2.15.0"}))


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (sequential(layer("Lambda", function={"class_name": "__lambda__", "config": {"code": "x"}})), "Lambda"),
        (sequential(layer("Lambda", "keras.src.layers.core.lambda_layer")), "Lambda"),
        (sequential(layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "x"}})), "__lambda__"),
        (sequential(layer("Dense", spec={"class_name": "__typespec__", "config": []})), "__typespec__"),
        (sequential(layer("TFSMLayer", filepath="model")), "TFSMLayer"),
        (sequential(layer("TorchModuleWrapper", "keras.src.utils.torch_utils")), "TorchModuleWrapper"),
        (sequential(layer("JaxLayer", "keras.src.layers.core.jax_layer")), "JaxLayer"),
        (sequential(layer("StringLookup", vocabulary="words.txt")), "StringLookup"),
        (sequential(layer("TextVectorization")), "TextVectorization"),
        (sequential(layer("Dense", registered_name="Lambda")), "Lambda"),
        (sequential(layer("Dense", registered_name="mine>Lambda")), "Lambda"),
        (sequential(layer("Popen", "subprocess")), "'subprocess'"),
        (sequential(layer("system", "os")), "'os'"),
        (sequential(layer("Mine", "my_package.layers")), "'my_package.layers'"),
        (sequential(layer("Mine", "keras.layersx")), "'keras.layersx'"),
        (sequential(layer("get_file", "keras.utils")), "'keras.utils'"),
        (sequential(layer("Thing", "keras.src.saving.saving_lib")), "'keras.src.saving.saving_lib'"),
        (sequential(layer("Thing", "keras.src.layers/../utils")), "layers/../utils"),
        (sequential(layer("load", "keras_cv.src.utils.preset_utils")), "'keras_cv.src.utils.preset_utils'"),
        (sequential(layer("Dense", "keras.layers", "mine>Dense")), "mine>Dense"),
        (sequential({"class_name": "Mine", "config": {}}), "module 'None'"),
        (sequential({"class_name": ["Dense"], "config": {}, "module": "keras.layers"}), "name of a class"),
        (sequential(layer("__import__('os')")), "name of a class"),
        (sequential(layer("function", "builtins", config="x")), "name of a Keras function"),
        (sequential({**layer("function", "keras.models"), "config": "load_model"}), "load_model of keras.models"),
        (sequential(layer("Dense", path="../secret")), "../secret"),
        (sequential(layer("Dense", path="a\\..\\b")), "a path or address"),
        (sequential(layer("Dense", path="/etc/passwd")), "/etc/passwd"),
        (sequential(layer("Dense", keys={"~/.ssh/id_rsa": 1})), "ssh"),
        (sequential(layer("Dense", path="gs://bucket/x")), "gs://bucket/x"),
        (sequential(layer("Dense", path="C:\\windows")), "windows"),
    ],
)
def test_what_is_no_plain_layer_is_refused_by_name(tmp_path: Path, config: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidModel) as refusal:
        check_archive(keras_file(tmp_path / "m.keras", config))
    assert what in str(refusal.value)


def test_a_hostile_object_is_found_wherever_it_hides(tmp_path: Path) -> None:
    bad = layer("Lambda")
    for config in (
        sequential(layer("TimeDistributed", layer=bad)),
        sequential(layer("Dense", kernel_initializer=[[bad]])),
        {**sequential(), "build_config": {"input_shape": [bad]}},
        sequential(layer("Sequential", "keras", layers=[bad])),
        sequential({**layer("Dense"), "compile_config": {"loss": bad}}),
    ):
        with pytest.raises(InvalidModel, match="Lambda"):
            check_config(config, "m.keras")


def test_a_loss_of_ones_own_is_no_reason_to_refuse_since_it_is_not_loaded() -> None:
    check_config({**sequential(), "compile_config": {"loss": layer("MyLoss", "my_package")}}, "m.keras")


def test_kerascv_layers_are_accepted_under_their_registered_names_only() -> None:
    module = "keras_cv.src.models.classification.image_classifier"
    check_config(layer("ImageClassifier", module, "keras_cv.models>ImageClassifier"), "m.keras")
    with pytest.raises(InvalidModel, match="registered"):
        check_config(layer("ImageClassifier", module, "keras_cv.models>Other"), "m.keras")


def test_an_endlessly_nested_configuration_is_refused(tmp_path: Path) -> None:
    nested: Any = {}
    for _ in range(MAX_DEPTH + 1):
        nested = {"x": nested}
    with pytest.raises(InvalidModel, match="nested"):
        check_archive(keras_file(tmp_path / "m.keras", nested))
    with pytest.raises(InvalidModel, match="not JSON"):
        check_archive(keras_file(tmp_path / "n.keras", b"[" * 100_000))


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"more": {"../evil.py": b"x"}}, r"'\.\./evil\.py'"),
        ({"more": {"assets/vocabulary.txt": b"x"}}, "assets/vocabulary.txt"),
        ({"config": b"\xff"}, "not JSON"),
        ({"config": [1]}, "got list"),
        ({"metadata": b"{"}, "metadata.json is not JSON"),
    ],
)
def test_a_zip_that_holds_something_else_is_refused(tmp_path: Path, parts: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidModel, match=complaint):
        check_archive(keras_file(tmp_path / "m.keras", **parts))


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = keras_file(tmp_path / "m.keras")
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of the very thing that is tested
        archive.writestr("config.json", json.dumps(sequential(layer("Lambda"))))
    with pytest.raises(InvalidModel, match="exactly"):
        check_archive(file)


def test_a_zip_bomb_is_refused_without_unpacking(tmp_path: Path) -> None:
    config = sequential(layer("Dense", name="x" * 5_000_000))
    with pytest.raises(InvalidModel, match="bomb"):
        check_archive(keras_file(tmp_path / "m.keras", config, compression=zipfile.ZIP_DEFLATED))


def test_a_directory_of_another_disk_is_refused(tmp_path: Path) -> None:
    """The standard library raises where it is only asked whether this is a zip at all."""
    file = keras_file(tmp_path / "m.keras")
    data = file.read_bytes()
    end = data.rindex(b"PK\5\6")
    locator = b"PK\6\7" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little")
    file.write_bytes(data[:end] + locator + data[end:])
    with pytest.raises(InvalidModel, match="multiple disks"):
        check_archive(file)


def test_a_packed_member_that_is_damaged_is_refused(tmp_path: Path) -> None:
    file = keras_file(tmp_path / "m.keras", compression=zipfile.ZIP_DEFLATED)
    data = bytearray(file.read_bytes())
    at = data.index(b"config.json") + len("config.json")
    data[at : at + 8] = b"\xff" * 8
    file.write_bytes(data)
    with pytest.raises(InvalidModel, match="not a readable"):
        check_archive(file)


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    file = keras_file(tmp_path / "m.keras")
    data = bytearray(file.read_bytes())
    at = data.index(b"Sequential")
    data[at : at + 4] = b"xxxx"
    file.write_bytes(data)
    with pytest.raises(InvalidModel, match="CRC"):
        check_archive(file)
