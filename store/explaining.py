"""From what a database driver raises to what a person needs to know."""

from sqlalchemy.exc import DBAPIError, OperationalError

from store.errors import DatabaseFull, DatabaseUnavailable, StoreError


def explain(error: DBAPIError, where: str) -> StoreError:
    """The error as a person needs it: what is wrong with the database at `where`, and what to do."""
    text = str(error.orig)
    lower = text.lower()
    if "disk is full" in lower or "no space left" in lower or getattr(error.orig, "sqlstate", "") == "53100":
        return DatabaseFull(f"No space left for the database {where}. Free some and try again; nothing was lost.")
    if "readonly" in lower or "read-only" in lower:
        return DatabaseUnavailable(f"The database {where} is read-only. Check the rights of the file and its folder.")
    if "unable to open" in lower:
        return DatabaseUnavailable(
            f"The database {where} cannot be opened. Check that its folder exists and is writable."
        )
    if "not a database" in lower or "malformed" in lower:
        return DatabaseUnavailable(f"The file {where} is not a healthy SQLite database: {text}.")
    if "locked" in lower:
        return DatabaseUnavailable(f"The database {where} stayed locked by another program. Try again.")
    if "no such table" in lower or "no such column" in lower:
        return StoreError(f"The database {where} lacks what this Pixmill expects: {text.strip()}")
    if isinstance(error, OperationalError):
        return DatabaseUnavailable(f"The database {where} cannot be reached: {text.strip()}")
    return StoreError(f"The database {where} refused: {text.strip()}")
