"""Hostile files of other kinds: pickles, old formats, devices, and zips that say they were exported by Pixmill."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from tests.models.hostile_kinds import Canary, Hostile
from tests.models.keras_files import layer, sequential

LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}


def hostile_files() -> Mapping[str, Hostile]:
    """By what they are."""
    return {
        "an .h5 file": _legacy("m.h5", "save it as .keras"),
        "an .hdf5 file": _legacy("m.hdf5", "save it as .keras"),
        "an .h5 file named .keras": _legacy("m.keras", "renamed"),
        "a pickle": _pickled("m.pkl", "a pickle runs code"),
        "a pickle named .keras": _pickled("m.keras", "not a .keras file"),
        "PyTorch's pickle": _pickled("m.pt", "only Keras models"),
        "an ONNX file": _plain("m.onnx", b"\x08\x08", "only Keras models"),
        "a frozen graph": _plain("m.pb", b"\x08\x01", "save the Keras model"),
        "a SavedModel": Hostile(_saved_model, "SavedModel"),
        "a device named .keras": Hostile(_device, "no such file"),
        "a pipe named .keras": Hostile(_pipe, "no such file"),
        "nothing named .keras": _plain("m.keras", b"", "empty"),
        **_bundles(),
    }


def _plain(name: str, data: bytes, word: str) -> Hostile:
    def make(folder: Path, _canary: Canary) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return Hostile(make, word)


class _Runs:
    """What a pickle can do when it is opened."""

    def __init__(self, canary: Canary) -> None:
        self._path = str(canary.file)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.remove, (self._path,)


def _pickled(name: str, word: str) -> Hostile:
    def make(folder: Path, canary: Canary) -> Path:
        (folder / name).write_bytes(pickle.dumps(_Runs(canary)))
        return folder / name

    return Hostile(make, word)


def _legacy(name: str, word: str) -> Hostile:
    def make(folder: Path, _canary: Canary) -> Path:
        with h5py.File(folder / name, "w") as file:
            file.attrs["model_config"] = json.dumps(sequential(layer("Lambda", function=LAMBDA)))
        return folder / name

    return Hostile(make, word)


def _saved_model(folder: Path, _canary: Canary) -> Path:
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder / "saved"


def _device(folder: Path, _canary: Canary) -> Path:
    (folder / "m.keras").symlink_to("/dev/zero")
    return folder / "m.keras"


def _pipe(folder: Path, _canary: Canary) -> Path:
    os.mkfifo(folder / "m.keras")
    return folder / "m.keras"


_FOREIGN_MANIFEST = {
    "format": 1,
    "name": "../../evil",
    "version": 1,
    "output": "logits",
    "classes": 2,
    "created_at": "",
    "preprocessing": {},
    "files": {"/etc/passwd": {"size": 1, "sha256": "0"}},
}


def _bundle(word: str, **changes: bytes | None) -> Hostile:
    """A bundle with some members changed; None leaves one out."""

    def make(folder: Path, _canary: Canary) -> Path:
        good = {"manifest.json": b"{}", "model.keras": b"PK", "labels.json": b"[]", "probe.npz": b"PK"}
        with zipfile.ZipFile(folder / "m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in {**good, **changes}.items():
                if data is not None:
                    archive.writestr(name, data)
        return folder / "m.zip"

    return Hostile(make, word)


def _bundles() -> dict[str, Hostile]:
    return {
        "a bundle that climbs": _bundle("../../evil", **{"../../evil": b"x"}),
        "a bundle with an absolute path": _bundle("/etc/evil", **{"/etc/evil": b"x"}),
        "a bundle with a compiled form": _bundle("openvino", **{"openvino/model.xml": b"<net/>"}),
        "a bundle with a program": _bundle("run.py", **{"run.py": b"import os"}),
        "a bundle that grows": _bundle("bomb", **{"card.md": bytes(20_000_000)}),
        "a bundle without its probe": _bundle("probe.npz is missing", **{"probe.npz": None}),
        "a bundle whose manifest is none": _bundle("manifest", **{"manifest.json": b"[[]]"}),
        "a bundle whose manifest never ends": _bundle("manifest", **{"manifest.json": b"[" * 100_000}),
        "a bundle whose manifest names other files": _bundle(
            "manifest", **{"manifest.json": json.dumps(_FOREIGN_MANIFEST).encode()}
        ),
    }
