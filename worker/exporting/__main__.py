"""`python -m worker.exporting`: writes a job's results as Parquet to stdout. The API's child: it never loads pyarrow.

On stdin comes one JSON object: the database's URL, the job's number, the filter, the order. Exit code 0 only if all is
written.
"""

from __future__ import annotations

import json
import os
import sys

from store.database import Database
from store.query import walk
from store.results import Filter
from worker.exporting.parquet import write_parquet


def main() -> None:
    """Write what stdin asks for. Nothing but the file goes to stdout."""
    asked = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever prints does not end up inside the file
        database = Database(asked["database"])
        try:
            write_parquet(out, walk(database, asked["job"], Filter(**asked["filter"]), asked["order"]))
        finally:
            database.close()


if __name__ == "__main__":
    main()
