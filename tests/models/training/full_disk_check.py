"""One check of loop_child's: a disk that is full."""

import errno
from pathlib import Path

from models.training import checkpoints
from models.training.loop import CheckpointPlace, Trainer
from models.training.steps import set_seed
from tests.models.training.small_runs import Recorder, phases, recipe, refusal


def a_full_disk_is_waited_out(folder: Path) -> None:
    """A checkpoint that finds no space is written later, and the run ends as if nothing had been; others end it."""
    save = checkpoints.save
    asked: list[int | None] = []

    def full(folder: Path, name: str, checkpoint: checkpoints.Checkpoint) -> Path:
        if len(asked) < 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder / name))
        return save(folder, name, checkpoint)

    def wait(error: OSError) -> bool:
        asked.append(error.errno)
        return True

    head = phases(recipe())[0]
    set_seed(recipe().seed)
    checkpoints.save = full
    try:
        trainer = Trainer(recipe(), CheckpointPlace(folder, 0, 13, wait), Recorder())
        assert trainer.run(head).ended == "done"
        asked.clear()
        with refusal(OSError, "No space"):
            Trainer(recipe(), CheckpointPlace(folder / "2", 0, 13), Recorder()).run(phases(recipe())[0])
    finally:
        checkpoints.save = save
    assert asked == []
