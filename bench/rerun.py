"""A second run over an unchanged folder of 60,000 files, which opens none of them.

usage: ./do bench rerun [FILES]
Uses the stand-in engine: the second run never reaches one. Prints the seconds of the whole command, start-up counted.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.running import Home, fake_model, write_images

PER_FOLDER = 1000


def main(files: int) -> None:
    """Make the files, classify them, and classify them again three times."""
    with tempfile.TemporaryDirectory(prefix="pixmill-bench-") as scratch:
        home, photos = Home(Path(scratch) / "home", {"PIXMILL_ENGINE": "fake"}), Path(scratch) / "photos"
        fake_model(home.path)
        for start in range(0, files, PER_FOLDER):
            write_images(photos / f"{start // PER_FOLDER:05}", min(PER_FOLDER, files - start), start=start)
        for number in range(1, 5):
            before = time.perf_counter()
            command = home.command("classify", photos)
            subprocess.run(command, env={**os.environ, **home.env()}, check=True, stderr=subprocess.DEVNULL)
            seconds = time.perf_counter() - before
            (totals,) = home.sql("SELECT found, classified, reused FROM v_job_totals ORDER BY job_id DESC LIMIT 1")
            print(f"run {number}: {seconds:.2f} s, {json.dumps(totals)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60_000)
