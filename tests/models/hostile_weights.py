"""Hostile weights: what HDF5 can do. Only the sandbox opens them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

from tests.models.hostile_kinds import Canary, Hostile
from tests.models.keras_files import keras_file, plain_weights


def _hdf5(word: str, act: Callable[[h5py.File, Canary], object]) -> Hostile:
    """A `.keras` file whose weights do this; only the sandbox opens them."""

    def make(folder: Path, canary: Canary) -> Path:
        def weights(file: h5py.File) -> None:
            plain_weights(file)
            act(file, canary)

        return keras_file(folder / "m.keras", weights=weights)

    return Hostile(make, word, "sandbox")


def _external_numbers(file: h5py.File, canary: Canary) -> None:
    file.create_dataset("stolen", (4,), "f4", external=[(str(canary.file), 0, 16)])


def _virtual_numbers(file: h5py.File, canary: Canary) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(canary.file), "secret", shape=(4,))
    file.create_virtual_dataset("stolen", layout)


def _hdf5_link(file: h5py.File, canary: Canary) -> None:
    file["layers/dense/vars/1"] = h5py.ExternalLink(str(canary.file), "/")


def _soft_link(file: h5py.File, _canary: Canary) -> None:
    file["soft"] = h5py.SoftLink("/layers")


def _circle(file: h5py.File, _canary: Canary) -> None:
    file["layers/again"] = file["/"]


def hostile_weights() -> Mapping[str, Hostile]:
    """By what they do."""
    return {
        "weights from another file": _hdf5("other files", _external_numbers),
        "weights from another HDF5 file": _hdf5("other files", _virtual_numbers),
        "a link to another file": _hdf5("ExternalLink", _hdf5_link),
        "a soft link": _hdf5("SoftLink", _soft_link),
        "a circle of groups": _hdf5("same object", _circle),
        "a declared terabyte": _hdf5(
            "HDF5 bomb", lambda file, _: file.create_dataset("huge", (2**20, 2**18), "f4", chunks=(1024, 1024))
        ),
        "more dimensions than memory": _hdf5(
            "HDF5 bomb", lambda file, _: file.create_dataset("huge", (2**40, 2**20), "f4", chunks=(1, 1))
        ),
        "packed zeros": _hdf5(
            "HDF5 bomb", lambda file, _: file.create_dataset("zeros", data=np.zeros(2**22), compression="gzip")
        ),
        "nothing where numbers belong": _hdf5(
            "expected numbers", lambda file, _: file.create_dataset("nothing", data=h5py.Empty("f4"))
        ),
        "words": _hdf5("expected numbers", lambda file, _: file.create_dataset("words", data=["a", "b"])),
        "references": _hdf5("expected numbers", lambda file, _: file.create_dataset("refs", (1,), h5py.ref_dtype)),
        "a type of its own": _hdf5("Datatype", lambda file, _: file.__setitem__("kind", np.dtype("f4"))),
        "groups without end": _hdf5("nested", lambda file, _: file.create_group("/".join("g" * 200))),
        "weights that are no HDF5": Hostile(_no_hdf5, "not a readable HDF5", "sandbox"),
        "weights whose checksum is wrong": Hostile(_wrong_checksum, "its weights are damaged", "sandbox"),
        "weights that are damaged": Hostile(_damaged_hdf5, "not a readable HDF5", "sandbox"),
    }


def _no_hdf5(folder: Path, _canary: Canary) -> Path:
    return _with_weights(folder, pickle.dumps({"weights": [1, 2, 3]}))


def _wrong_checksum(folder: Path, _canary: Canary) -> Path:
    file = keras_file(folder / "m.keras")
    data = bytearray(file.read_bytes())
    data[data.index(b"\x89HDF") + 600] ^= 1
    file.write_bytes(data)
    return file


def _damaged_hdf5(folder: Path, _canary: Canary) -> Path:
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        plain_weights(file)
    data = bytearray(made.getvalue())
    data[96:200] = b"\xff" * 104
    return _with_weights(folder, bytes(data))


def _with_weights(folder: Path, weights: bytes) -> Path:
    good = keras_file(folder / "good.keras")
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(folder / "m.keras", "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, weights if name == "model.weights.h5" else archive.read(name))
    good.unlink()
    return folder / "m.keras"
