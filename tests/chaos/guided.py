"""Fuzzing that is guided by coverage, for a long night: python -m tests.chaos.guided images --seconds 3600.

Needs atheris, which is in no lock of ours: `pip install atheris` into an environment of its own choosing. A finding is
written to the working directory as `crash-…`; the first line of what is printed says which error it was.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

INSTRUMENTED = ["PIL", "models", "worker.sources", "zipfile", "tarfile", "csv", "tomllib"]
LIMIT_S = 60
MEMORY_MIB = 4096


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos.guided", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "what", help="images, csv, jsonl, parquet, zip, tar, tar.gz, recipe, labels, keras, bundle, weights"
    )
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="keep what was found there, and go on from it the next time")
    chosen = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write(
            "atheris is not installed here: `pip install atheris` (Linux, Python 3.11 to 3.13), then again.\n"
        )
        return 2
    with tempfile.TemporaryDirectory() as place:
        _fuzz(chosen.what, chosen.corpus or Path(place), chosen.seconds)
    return 0


def _fuzz(what: str, corpus: Path, seconds: int) -> None:
    """Does not come back: the fuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        front = importlib.import_module("tests.chaos.mutant_front")
        inputs = importlib.import_module("tests.chaos.input_front")
    originals = importlib.import_module("tests.chaos.originals")
    reading = None if what == "images" else inputs.kinds()[what]
    whole = list(originals.originals().values()) if reading is None else reading.whole
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(whole):
        (corpus / f"original-{number:03}").write_bytes(data)

    def once(data: bytes) -> None:
        if reading is None:
            _, odd = front.examine(data, front.WISHES[0])
        else:
            _, odd = inputs.examine(what, reading, data)
        if odd is not None:
            raise RuntimeError(odd)

    options = [
        f"-max_total_time={seconds}",
        f"-timeout={LIMIT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
