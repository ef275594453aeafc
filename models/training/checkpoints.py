"""Checkpoints: everything that decides the rest of a run, as a folder that is complete or is not there."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidModel
from models.files import facts_of, sync, sync_tree

ARRAYS, STATE = "arrays.npz", "state.json"
HALF = ".part"  # the ending of a folder that is being written
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """arrays: any names and shapes, no objects; state: plain JSON values, whose floats keep every bit."""

    arrays: Mapping[str, NDArray[Any]]
    state: Mapping[str, Any]


def save(folder: Path, name: str, checkpoint: Checkpoint) -> Path:
    """Write `folder/name`, which is there whole and on the disk when this returns, or not at all.

    Names sort in the order of time (`prune` needs that); one that is there already is replaced.
    Raises ValueError for arrays or state that could not be read back, OSError where a disk has no room.
    """
    whole, half = folder / name, folder / f"{name}{HALF}"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    try:
        _write(half, checkpoint)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)  # on a full disk its bytes are wanted elsewhere
        raise
    # A folder cannot be renamed over one that has files; nobody points at a name that is written a second time.
    shutil.rmtree(whole, ignore_errors=True)
    half.replace(whole)
    sync(folder)
    return whole


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises InvalidModel for one that is missing, half or damaged."""
    try:
        document = json.loads((path / STATE).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise InvalidModel(
                f"Checkpoint {path}: expected format {FORMAT}, got {document['format']}; "
                f"resume it with the version that wrote it, or start the training anew."
            )
        if document["state_sha256"] != _hash(document["state"]) or document["arrays"] != facts_of(path / ARRAYS):
            raise _damaged(path, "its hashes differ from those that were written")
        with np.load(path / ARRAYS, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return Checkpoint(arrays, json.loads(document["state"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def prune(path: Path) -> None:
    """Remove what is older than this checkpoint beside it, and what a kill left half written.

    Call it when the pointer has moved to `path`, never before: what it removes can no more be resumed from.
    """
    for beside in sorted(path.parent.iterdir()):
        if beside.is_dir() and (beside.name < path.name or beside.name.endswith(HALF)):
            shutil.rmtree(beside, ignore_errors=True)


def _write(half: Path, checkpoint: Checkpoint) -> None:
    _write_arrays(half / ARRAYS, checkpoint.arrays)
    state = json.dumps(dict(checkpoint.state), allow_nan=False)
    document = {"format": FORMAT, "arrays": facts_of(half / ARRAYS), "state_sha256": _hash(state), "state": state}
    (half / STATE).write_text(json.dumps(document), encoding="utf-8")
    sync_tree(half)


def _write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    # As numpy.savez does it, which would take the names as keyword arguments and so forbid some ("file").
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if array.dtype.kind == "V":
                raise ValueError(f"Expected a plain type for {name}, got {array.dtype}, which cannot be read back.")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _damaged(path: Path, reason: str) -> InvalidModel:
    return InvalidModel(f"Checkpoint {path} cannot be read: {reason}. Resume from another, or start the training anew.")
