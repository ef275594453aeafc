"""How fast a folder is listed: files per second, and memory at the end.

    python bench/scan.py [--files 60000] [--folders 60] [FOLDER]

Without FOLDER, empty files named like pictures are made in a temporary folder and removed afterwards.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from worker.sources.opening import open_source


def make(folder: Path, files: int, folders: int) -> None:
    for number in range(folders):
        subfolder = folder / f"class_{number:04d}"
        subfolder.mkdir()
        for index in range(number, files, folders):
            (subfolder / f"image_{index:08d}.jpg").touch()


def scan(folder: Path) -> None:
    for run in ("first", "second", "third"):
        start = time.perf_counter()
        found = sum(1 for _ in open_source([str(folder)]))
        seconds = time.perf_counter() - start
        print(f"{run}: {found:,} files in {seconds:.2f} s, {found / seconds:,.0f} files/s")
    print(f"memory at its highest: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--folders", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.folder:
        scan(arguments.folder)
        return
    with tempfile.TemporaryDirectory(prefix="pixmill-scan-") as folder:
        make(Path(folder), arguments.files, arguments.folders)
        scan(Path(folder))


if __name__ == "__main__":
    main()
