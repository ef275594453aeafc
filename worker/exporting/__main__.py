"""`python -m worker.exporting`: writes an export as Parquet to stdout. The API's child: it never loads pyarrow.

On stdin comes the database's URL on one line, and the selection as JSON. Exit code 0 only if all is written.
"""

from __future__ import annotations

import os
import sys

from store.database import Database
from worker.exporting.parquet import write_parquet
from worker.exporting.selection import SELECTION, JobItems


def main() -> None:
    """Write what stdin asks for. Nothing but the file goes to stdout."""
    url, asked = sys.stdin.buffer.read().split(b"\n", 1)
    selection = SELECTION.validate_json(asked)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever prints does not end up inside the file
        database = Database(url.decode())
        try:
            write_parquet(out, selection.rows(database), "items" if isinstance(selection, JobItems) else "results")
        finally:
            database.close()


if __name__ == "__main__":
    main()
