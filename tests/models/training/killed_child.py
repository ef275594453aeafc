"""A process that trains until it is killed: `python -m tests.models.training.killed_child FOLDER`.

Prints a line per step, then what came of it as JSON. `pointer` in the folder names the checkpoint to go on from.
"""

import hashlib
import json
import sys
from pathlib import Path

from models.files import replace_text
from models.training.history import Wish
from tests.models.training.small_runs import Recorder, train


class Pointer(Recorder):
    """Keeps the pointer in a file, as the store keeps it in a row."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pointer"
        super().__init__(pointer=Path(self.file.read_text()) if self.file.exists() else None)

    def checkpoint(self, path: Path, epoch: int, step: int) -> None:
        replace_text(self.file, str(path))
        super().checkpoint(path, epoch, step)

    def wanted(self) -> Wish:
        sys.stdout.write("step\n")
        return super().wanted()


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    attempts = len(list(folder.glob("attempt-*")))
    result = train(folder / f"attempt-{attempts}", Pointer(folder))
    hashes = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in result.arrays.items()}
    answer = {"history": result.history, "best": result.outcome.best_epoch, "arrays": hashes}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
