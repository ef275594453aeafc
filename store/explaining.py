"""From what a database driver raises to what a person needs to know."""

from sqlalchemy.exc import DBAPIError, OperationalError

from store.errors import DatabaseFull, DatabaseUnavailable, StoreError

# SQLSTATEs of PostgreSQL, and parts of SQLite's messages; the first line that matches decides.
STATES: tuple[tuple[tuple[str, ...], type[StoreError], str], ...] = (
    (("53100",), DatabaseFull, "No space left for the database {where}. Free some and try again; nothing was lost."),
    (("40001", "40P01", "55P03"), DatabaseUnavailable, "Another transaction was in the way in {where}. Try again."),
    (("25006",), DatabaseUnavailable, "The database {where} is read-only."),
)
MESSAGES: tuple[tuple[tuple[str, ...], type[StoreError], str], ...] = (
    (
        ("disk is full", "no space left"),
        DatabaseFull,
        "No space left for the database {where}. Free some and try again; nothing was lost.",
    ),
    (
        ("readonly", "read-only"),
        DatabaseUnavailable,
        "The database {where} is read-only. Check the rights of the file and its folder.",
    ),
    (
        ("unable to open",),
        DatabaseUnavailable,
        "The database {where} cannot be opened. Check that its folder exists and is writable.",
    ),
    (
        ("not a database", "malformed"),
        DatabaseUnavailable,
        "The file {where} is not a healthy SQLite database: {text}.",
    ),
    (
        ("database is locked", "table is locked"),
        DatabaseUnavailable,
        "The database {where} stayed locked by another program. Try again.",
    ),
    (
        ("no such table", "no such column"),
        StoreError,
        "The database {where} lacks what this Pixmill expects: {text}",
    ),
)


def explain(error: DBAPIError, where: str) -> StoreError:
    """The error as a person needs it: what is wrong with the database at `where`, and what to do."""
    text, state = str(error.orig).strip(), str(getattr(error.orig, "sqlstate", None))
    for states, kind, message in STATES:
        if state in states:
            return kind(message.format(where=where, text=text))
    for parts, kind, message in MESSAGES:
        if any(part in text.lower() for part in parts):
            return kind(message.format(where=where, text=text))
    if isinstance(error, OperationalError):
        return DatabaseUnavailable(f"The database {where} cannot be reached: {text}")
    return StoreError(f"The database {where} refused: {text}")
