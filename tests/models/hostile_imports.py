"""`pixmill models import` for many files, one after the other in one process: python hostile_imports.py FILES.json.

Prints a JSON line for each: its name, the exit code, and all that was said on standard error.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from cli.tree import run


def main(cases: Path) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name, file in json.loads(cases.read_text()).items():
        begun = time.monotonic()
        with tempfile.TemporaryFile() as words:
            kept = os.dup(2)
            os.dup2(words.fileno(), 2)
            try:
                code = run(["models", "import", file, "--name", "hostile", "--json"])
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
                os.close(kept)
            words.seek(0)
            said = words.read().decode("utf-8", "replace")
        seconds = round(time.monotonic() - begun, 2)
        answers.write(json.dumps({"name": name, "code": code, "said": said, "seconds": seconds}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
