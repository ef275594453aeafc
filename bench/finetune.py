"""A new head on a frozen backbone against the plain Keras script: the same photographs, the same ten epochs.

usage: ./do bench finetune [ROUNDS]
Runs both in turn on cats_dogs with the MobileNetV2 of the shared data folder, and prints the seconds of each round: the
script's from imported libraries to the saved model, Pixmill's from the accepted job to the registered model (the
trainer's own start and imports are inside that), and the accuracy of both on the test photographs.
"""

import json
import os
import statistics
import sys
import tarfile
import tempfile
from pathlib import Path

from bench.bulk import MODEL, SHARED, run

EPOCHS = 10


def time_script(home: Path, data: Path) -> tuple[float, float]:
    """Seconds and accuracy of the script."""
    out = home / "script.keras"
    told = run("bench.finetune_script", MODEL, data / "train", data / "test", EPOCHS, out, home=home)
    report = json.loads(told.splitlines()[-1])  # Keras prints how many files it uses
    return report["seconds"], report["accuracy"]


def time_pixmill(home: Path, data: Path) -> tuple[float, float]:
    """Seconds from the job's acceptance to the registered model, and the accuracy of its evaluation."""
    run("cli", "finetune", data, "--name", "pets", "--base", "mobilenet_v2", "--epochs", EPOCHS, home=home)
    query = (
        "SELECT m.created_at - r.created_at AS seconds, e.accuracy FROM runs r JOIN models m ON m.id = r.model_id "
        "JOIN evaluations e ON e.run_id = r.id ORDER BY r.id DESC LIMIT 1"
    )
    row = json.loads(run("cli", "sql", query, "--json", home=home))
    return row["seconds"], row["accuracy"]


def main(rounds: int) -> None:
    """Interleave both and print the figures."""
    with tempfile.TemporaryDirectory(prefix="pixmill-bench-") as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        with tarfile.open(SHARED / "cats_dogs.tar") as archive:
            archive.extractall(scratch, filter="data")
        data = Path(scratch) / "cats_dogs"
        run("cli", "models", "import", MODEL, home=home)
        print(f"cats_dogs, {EPOCHS} epochs, {os.cpu_count()} cores; seconds (test accuracy)")
        figures = []
        for number in range(1, rounds + 1):
            script, ours = time_script(home, data), time_pixmill(home, data)
            figures.append((script[0], ours[0]))
            print(f"round {number}: script {script[0]:.1f} ({script[1]:.4f})   Pixmill {ours[0]:.1f} ({ours[1]:.4f})")
        theirs, mine = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"medians: script {theirs:.1f}   Pixmill {mine:.1f}   ratio {theirs / mine:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
