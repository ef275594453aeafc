from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from models.archive_check import unpack_weights
from models.errors import InvalidModel
from models.weights_check import check_weights
from tests.models.keras_files import keras_file, plain_weights


def test_the_weights_of_a_plain_file_pass(tmp_path: Path) -> None:
    check_weights(unpack_weights(keras_file(tmp_path / "m.keras"), tmp_path / "work"))


def test_the_weights_of_the_real_mobilenet_pass(tmp_path: Path, shared_data: Path) -> None:
    check_weights(unpack_weights(shared_data / "mobilenet_v2_imagenet.keras", tmp_path))


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", shape=(4,))
    file.create_virtual_dataset("stolen", layout)


def _external_data(file: h5py.File) -> None:
    file.create_dataset("stolen", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def _cycle(file: h5py.File) -> None:
    file["layers"]["again"] = file["layers"]


def _cycle_to_the_root(file: h5py.File) -> None:
    file["layers"]["again"] = file["/"]


def _soft(file: h5py.File) -> None:
    file["soft"] = h5py.SoftLink("/layers")


def _external_link(file: h5py.File) -> None:
    file["external"] = h5py.ExternalLink("/etc/passwd", "/")


def _hidden_link(file: h5py.File) -> None:
    file["layers/dense/vars"]["1"] = h5py.ExternalLink("other.h5", "/secret")


def _words(file: h5py.File) -> None:
    file.create_dataset("words", data=["a", "b"])


def _letters(file: h5py.File) -> None:
    file.create_dataset("letters", data=np.array([b"ab", b"cd"]))


def _record_with_words(file: h5py.File) -> None:
    file.create_dataset("records", (1,), np.dtype([("number", "f4"), ("word", h5py.string_dtype())]))


def _references(file: h5py.File) -> None:
    file.create_dataset("refs", (1,), h5py.ref_dtype)


def _nothing(file: h5py.File) -> None:
    file.create_dataset("nothing", data=h5py.Empty("f4"))


def _type(file: h5py.File) -> None:
    file["kind"] = np.dtype("f4")


def _bomb(file: h5py.File) -> None:
    file.create_dataset("huge", (2**20, 2**20), "f4", chunks=(1024, 1024))


def _deep(file: h5py.File) -> None:
    file.create_group("/".join("g" * 100))


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (_virtual, "other files"),
        (_external_data, "other files"),
        (_cycle, "same object"),
        (_cycle_to_the_root, "same object"),
        (_soft, "SoftLink"),
        (_external_link, "ExternalLink"),
        (_hidden_link, "layers/dense/vars/1 is a ExternalLink"),
        (_words, "expected numbers"),
        (_letters, "expected numbers"),
        (_record_with_words, "expected numbers"),
        (_references, "expected numbers"),
        (_nothing, "expected numbers"),
        (_type, "Datatype"),
        (_bomb, "HDF5 bomb"),
        (_deep, "nested"),
    ],
)
def test_hdf5_that_points_elsewhere_or_grows_is_refused(
    tmp_path: Path, weights: Callable[[h5py.File], None], complaint: str
) -> None:
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        plain_weights(file)
        weights(file)
    with pytest.raises(InvalidModel, match=complaint):
        check_weights(path)


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    path.write_bytes(b"PK\3\4" * 100)
    with pytest.raises(InvalidModel, match="not a readable HDF5"):
        check_weights(path)
