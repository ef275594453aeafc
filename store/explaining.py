"""From what a database driver raises to what a person needs to know."""

from sqlalchemy.exc import DBAPIError, OperationalError

from store.errors import DatabaseFull, DatabaseUnavailable, StoreError
from store.room import has_room

FULL = "No space left for the database {where}. Free some and try again; nothing was lost."

# SQLSTATEs of PostgreSQL, and parts of SQLite's messages; the first line that matches decides.
STATES: tuple[tuple[tuple[str, ...], type[StoreError], str], ...] = (
    (("53100",), DatabaseFull, FULL),
    (("40001", "40P01", "55P03"), DatabaseUnavailable, "Another transaction was in the way in {where}. Try again."),
    # Psycopg calls these operational too, and to try again would never end.
    (("54000", "54001", "54011", "54023"), StoreError, "The database {where} has a limit that this is over: {text}"),
    (("25006",), DatabaseUnavailable, "The database {where} is read-only."),
    (
        ("25P03",),
        DatabaseUnavailable,
        "The database {where} ended a transaction in which this process stood still; nothing of it was written.",
    ),
)
MESSAGES: tuple[tuple[tuple[str, ...], type[StoreError], str], ...] = (
    (("disk is full", "no space left"), DatabaseFull, FULL),
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
    if _is_for_want_of_room(error, text.lower(), where):
        return _made(DatabaseFull, FULL, where, text)
    for states, kind, message in STATES:
        if state in states:
            return _made(kind, message, where, text)
    for parts, kind, message in MESSAGES:
        if any(part in text.lower() for part in parts):
            return _made(kind, message, where, text)
    if isinstance(error, OperationalError):
        return DatabaseUnavailable(f"The database {where} cannot be reached: {text}")
    return StoreError(f"The database {where} refused: {text}")


def _is_for_want_of_room(error: DBAPIError, text: str, where: str) -> bool:
    """SQLite calls it an I/O error where its shared memory, or a new file, finds no room."""
    from_sqlite = getattr(error.orig, "sqlite_errorcode", None) is not None
    return from_sqlite and ("disk i/o error" in text or "unable to open" in text) and not has_room(where)


def _made(kind: type[StoreError], message: str, where: str, text: str) -> StoreError:
    told = message.format(where=where, text=text)
    return DatabaseFull(told, f"the database {where}") if kind is DatabaseFull else kind(told)
