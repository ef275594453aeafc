"""Parquet manifests, read by a process of their own: this one never loads pyarrow, and a hostile file harms nobody."""

from __future__ import annotations

import json
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.sources.entry import printable
from worker.sources.errors import BadManifest, SourceError

MEMORY, LARGEST = 4 << 30, 4 << 30  # bytes: what the process may use, and write
LONGEST_S = 600.0


@contextmanager
def as_jsonl(path: Path, folder: Path) -> Iterator[Path]:
    """The manifest as JSON lines, for as long as the context lasts. Raises BadManifest."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = folder / f"{secrets.token_hex(8)}.jsonl"
    command = [sys.executable, "-P", "-m", "api.submission.tables", str(path), str(made)]
    name = printable(str(path))
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=LONGEST_S, stdin=subprocess.DEVNULL)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            told = said[-1].removeprefix(f"Manifest {name!r}: ") if said else "its reader died."
            raise BadManifest(name, told[:500])
        yield made
    except subprocess.TimeoutExpired as error:
        raise BadManifest(name, f"it was not read within {LONGEST_S:.0f} s. Write it as CSV.") from error
    finally:
        made.unlink(missing_ok=True)


def main() -> None:
    """Read the Parquet file of the first argument, write the second."""
    from worker.sources.rows import read_parquet

    for limit, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, LARGEST)):
        with suppress(ValueError, OSError):  # where less is allowed already
            resource.setrlimit(limit, (most, most))
    try:
        with Path(sys.argv[2]).open("w", encoding="utf-8", errors="surrogatepass") as made:
            for _, row in read_parquet(Path(sys.argv[1])):
                made.write(json.dumps(row) + "\n")
    except (SourceError, OSError, MemoryError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
