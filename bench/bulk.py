"""Bulk classification against the plain Keras script: the same photographs ten times over, nothing reused.

usage: ./do bench bulk [ROUNDS]
Runs both in turn, script, Pixmill, script, Pixmill …, and prints the images per second of each round, with the start-up
of both counted and excluded, and the ratios of the medians. Needs the shared data folder.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("PIXMILL_SHARED_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
MODEL = SHARED / "mobilenet_v2_imagenet.keras"
COPIES = 10


def run(*command: object, home: Path) -> str:
    """Run a command in a home of its own; returns what it printed."""
    environment = {**os.environ, "PIXMILL_HOME": str(home)}
    words = [sys.executable, "-P", "-m", *(str(word) for word in command)]
    return subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout


def make_photos(folder: Path) -> int:
    """The 200 photographs, COPIES times; returns how many files that is."""
    with tarfile.open(SHARED / "imagenet200.tar") as archive:
        archive.extractall(folder.parent, filter="data")
    originals = sorted((folder.parent / "imagenet200").iterdir())
    folder.mkdir()
    for copy in range(COPIES):
        for photo in originals:
            shutil.copyfile(photo, folder / f"{copy}_{photo.name}")
    return len(originals) * COPIES


def time_script(home: Path, photos: Path, count: int) -> tuple[float, float]:
    """Images per second of the script: start-up counted, and excluded."""
    before = time.perf_counter()
    report = json.loads(run("bench.keras_script", MODEL, photos, home=home))
    whole = time.perf_counter() - before
    assert report["images"] == count, report
    return count / whole, count / report["seconds"]


def time_pixmill(home: Path, photos: Path, count: int) -> tuple[float, float]:
    """Images per second of Pixmill: start-up counted, and excluded (from the first claim to the last commit)."""
    before = time.perf_counter()
    run("cli", "classify", photos, "--model", "mobilenet_v2", "--no-reuse", home=home)
    whole = time.perf_counter() - before
    query = "SELECT classified, seconds FROM v_job_totals ORDER BY job_id DESC LIMIT 1"
    totals = json.loads(run("cli", "sql", query, "--json", home=home))
    assert totals["classified"] == count, totals
    return count / whole, count / totals["seconds"]


def main(rounds: int) -> None:
    """Interleave both and print the figures."""
    with tempfile.TemporaryDirectory(prefix="pixmill-bench-") as scratch:
        home, photos = Path(scratch) / "home", Path(scratch) / "photos"
        count = make_photos(photos)
        run("cli", "models", "import", MODEL, home=home)
        figures = []
        print(f"{count:,} photographs, {os.cpu_count()} cores; images per second, start-up counted / excluded")
        for number in range(1, rounds + 1):
            script, ours = time_script(home, photos, count), time_pixmill(home, photos, count)
            figures.append((*script, *ours))
            print(f"round {number}: script {script[0]:.1f} / {script[1]:.1f}   Pixmill {ours[0]:.1f} / {ours[1]:.1f}")
        counted, excluded, our_counted, our_excluded = (
            statistics.median(column) for column in zip(*figures, strict=True)
        )
        print(f"medians: script {counted:.1f} / {excluded:.1f}   Pixmill {our_counted:.1f} / {our_excluded:.1f}")
        print(f"ratio: {our_counted / counted:.2f} counted, {our_excluded / excluded:.2f} excluded")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
