"""Checkpoints: complete or not there, and told when damaged."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.children import CODE
from models.errors import InvalidModel
from models.training.checkpoints import Checkpoint, load, prune, save

MADE = Checkpoint(
    {
        "model/0": np.arange(6, dtype=np.float32).reshape(2, 3),
        "optimizer/0": np.array(3, np.int64),
        "seed": np.array([2**32 - 1, 7], np.uint32),
        "file": np.array([0.1], np.float64),
    },
    {"epoch": 3, "rate": 0.1 + 0.2, "best": None, "name": "größer"},
)


def test_a_checkpoint_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    found = load(save(tmp_path / "new" / "folder", "000001", MADE))
    assert found.state == MADE.state
    assert found.arrays.keys() == MADE.arrays.keys()
    for name, array in MADE.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("file", ["arrays.npz", "state.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, file: str, damage: str) -> None:
    path = save(tmp_path, "000001", MADE)
    content = bytearray((path / file).read_bytes())
    middle = len(content) // 2
    if damage == "flipped":
        content[middle] ^= 1
    (path / file).write_bytes({"flipped": content, "cut": content[:middle]}.get(damage, bytearray()))
    if damage == "gone":
        (path / file).unlink()
    with pytest.raises(InvalidModel, match="cannot be read"):
        load(path)


def test_every_flipped_bit_of_the_state_is_found(tmp_path: Path) -> None:
    path = save(tmp_path, "000001", MADE)
    whole = (path / "state.json").read_bytes()
    for number in range(len(whole)):
        changed = bytearray(whole)
        changed[number] ^= 1
        (path / "state.json").write_bytes(changed)
        try:
            found = load(path)
        except InvalidModel:
            continue
        assert found.state == MADE.state, f"byte {number}"


def test_a_checkpoint_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, "000001", MADE)
    document = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(InvalidModel, match="expected format 1, got 99"):
        load(path)


def test_arrays_that_would_need_pickle_are_refused_before_they_are_written(tmp_path: Path) -> None:
    for strange in (np.array([object()]), np.zeros(2, "V2")):
        with pytest.raises(ValueError, match=r"Object arrays|plain type"):
            save(tmp_path, "000001", Checkpoint({"strange": strange}, {}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        save(tmp_path, "000001", Checkpoint({}, {"loss": float("nan")}))
    assert not (tmp_path / "000001").exists()


def test_older_and_half_checkpoints_are_pruned_and_newer_ones_kept(tmp_path: Path) -> None:
    paths = [save(tmp_path, f"{number:06}", MADE) for number in (1, 2, 3)]
    (tmp_path / "000009.part").mkdir()
    prune(paths[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002", "000003"]


def test_a_name_that_is_written_again_holds_the_later(tmp_path: Path) -> None:
    save(tmp_path, "000001", MADE)
    assert load(save(tmp_path, "000001", Checkpoint({}, {"epoch": 4}))).state == {"epoch": 4}


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from models.training import checkpoints
made = checkpoints.Checkpoint({"a": np.arange(1000)}, {})
folder = Path(sys.argv[1])
checkpoints.save(folder, "000001", made)
setattr(checkpoints, sys.argv[2], lambda *_: os.kill(os.getpid(), 9))
checkpoints.save(folder, "000002", made)
"""


@pytest.mark.parametrize("place", ["_write_arrays", "facts_of", "sync_tree", "sync"])
def test_a_kill_while_it_is_written_leaves_the_one_before(tmp_path: Path, place: str) -> None:
    """In each part of the work; after the rename the new one is whole."""
    environment = {**os.environ, "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), place], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    whole = sorted(path for path in tmp_path.iterdir() if not path.name.endswith(".part"))
    assert [path.name for path in whole] == (["000001", "000002"] if place == "sync" else ["000001"])
    for path in whole:
        assert load(path).arrays["a"].tolist() == list(range(1000))
