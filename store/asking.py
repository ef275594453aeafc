"""Any question to the database, answered row by row; what is asked can change nothing and reaches nothing else.

Three fences each. SQLite: a connection that is opened read-only; an authorizer that knows reading and nothing else, so
that neither ATTACH nor PRAGMA nor VACUUM INTO finds a file; a deadline inside the engine. PostgreSQL: a read-only
transaction; a cursor declared by the extended protocol, which takes one SELECT and no COPY; and since the user of a
small installation is often the server's owner, who may read the server's files from a SELECT, a look at the words: a
function can only be called by its name, and no name of one that does more than compute is let through.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
from sqlalchemy.exc import DBAPIError, OperationalError

from store.answering import Unanswered
from store.database import BUSY_TIMEOUT_MS, SCANS, Database, sqlite_module
from store.errors import DatabaseUnavailable, StoreError
from store.explaining import explain

Row = list[Any]  # of JSON values: bytes as hexadecimal digits, numbers that are none as null

BATCH = 1_000  # rows that are fetched at once
MAX_QUERY = 100_000  # characters
SECRET = ("tokens", "webhooks")  # tables that hold what opens doors; they have commands of their own
TICK = 10_000  # of SQLite's virtual machine, a few milliseconds, between two looks at the clock

# What SQLite's authorizer lets through (sqlite.org/c3ref/c_alter_table.html): SELECT, READ, FUNCTION, RECURSIVE.
_SELECT, _READ, _FUNCTION, _RECURSIVE = 21, 20, 31, 33
_OK, _DENY = 0, 1
_FORBIDDEN_SQLITE = frozenset({"load_extension", "readfile", "writefile", "edit", "fsdir", "fts3_tokenizer"})

# PostgreSQL calls a function volatile that has effects or depends on more than the data: files, settings, other
# sessions, other queries. These are harmless.
_HARMLESS = frozenset(
    {"random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "clock_timestamp", "timeofday", "setseed"}
    | {"array_sample", "array_shuffle"}
)
_VOLATILE = "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE provolatile = 'v'"
# u&"…" hides a name behind numbers.
_BEYOND = re.compile(rf"pg_(?!typeof\b)\w+|\w*_to_xml\w*|u&\s*\"|\b(?:{'|'.join(SECRET)})\b", re.ASCII)


class QueryRefused(StoreError):
    """The question is no single SELECT that reads this database, or the database cannot answer it; says why."""


class QueryTooSlow(QueryRefused):
    """There was no whole answer within the time."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"The query had no whole answer within {timeout_s:g} s. Ask for less, or allow more time.")
        self.timeout_s = timeout_s


@dataclass(frozen=True, slots=True)
class Answer:
    """The names of the columns, and the rows as they come. Iterating raises QueryRefused, StoreError."""

    columns: Sequence[str]
    rows: Iterator[Row]


# A person may read an answer page by page: nobody waits for the locks of a question.
_READ_SLOWLY = "SET LOCAL idle_in_transaction_session_timeout = '1min'"


class Deadline:
    """When an answer must be whole; None is never."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._end = math.inf if timeout_s is None else time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, below zero where it has passed."""
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raise QueryTooSlow where it has passed."""
        if self.left_s <= 0:
            raise QueryTooSlow(self.timeout_s or 0.0)


@contextlib.contextmanager
def ask(database: Database, query: str, *, timeout_s: float | None = None) -> Iterator[Answer]:
    """Ask one question; the rows may be read while the context is open.

    Raises QueryRefused for anything but a SELECT that reads this database, QueryTooSlow, StoreError.
    """
    if "\0" in query:
        raise QueryRefused("The query holds a NUL character.")
    if len(query) > MAX_QUERY:
        raise QueryRefused(f"Expected a query of at most {MAX_QUERY:,} characters, got {len(query):,}.")
    deadline = Deadline(timeout_s)
    with (_ask_sqlite if database.is_sqlite else _ask_postgresql)(database, query, deadline) as answer:
        yield answer


@contextlib.contextmanager
def _ask_sqlite(database: Database, query: str, deadline: Deadline) -> Iterator[Answer]:
    module = sqlite_module()
    try:
        connection = module.connect(
            f"file:{quote(str(database.url.database))}?mode=ro",
            uri=True,
            timeout=BUSY_TIMEOUT_MS / 1000,
            check_same_thread=False,  # the web server reads one answer from several threads, one after the other
        )
    except module.Error as error:
        raise _explained(error, database) from error
    try:
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: int(deadline.left_s <= 0), TICK)
        with _sqlite_errors(deadline):
            cursor = connection.execute(query)
        yield _answer(cursor.description, lambda: _fetch_sqlite(cursor, deadline))
    finally:
        connection.close()


def _authorize(action: int, one: str | None, two: str | None, *_: str | None) -> int:
    if action == _READ:
        return _DENY if (one or "").lower() in SECRET else _OK
    if action == _FUNCTION:
        return _DENY if (two or "").lower() in _FORBIDDEN_SQLITE else _OK
    return _OK if action in (_SELECT, _RECURSIVE) else _DENY


def _fetch_sqlite(cursor: Any, deadline: Deadline) -> Sequence[Sequence[Any]]:
    with _sqlite_errors(deadline):
        found: Sequence[Sequence[Any]] = cursor.fetchmany(BATCH)
        return found


@contextlib.contextmanager
def _sqlite_errors(deadline: Deadline) -> Iterator[None]:
    module = sqlite_module()
    try:
        yield
    except (module.Error, module.Warning, ValueError, OverflowError) as error:
        if "interrupted" in str(error):
            deadline.check()
        raise _refused(error) from error


@contextlib.contextmanager
def _ask_postgresql(database: Database, query: str, deadline: Deadline) -> Iterator[Answer]:
    try:
        pooled = database.engine.raw_connection()
    except psycopg.OperationalError as error:  # the driver's own: nobody is in between here
        raise explain(OperationalError("", None, error), database.where) from error
    connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]  # whatever the pool holds
    cursor = connection.cursor("pixmill_question")
    try:
        with _postgresql_errors(deadline):
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute(_READ_SLOWLY)
            connection.execute(SCANS)
            _check_words(query, connection.execute(_VOLATILE).fetchall())
            _limit(connection, deadline)
            cursor.execute(query.encode())
        yield _answer(cursor.description, lambda: _fetch_postgresql(connection, cursor, deadline))
    finally:
        with contextlib.suppress(psycopg.Error):
            cursor.close()
        connection.close()  # settings, and a cursor that was not read to its end, must not outlive this question
        pooled.invalidate()


def _check_words(query: str, volatile: Sequence[Sequence[str]]) -> None:
    """Refuse a query that names what reaches beyond the data; in a text too, since a text can become a query."""
    words = query.lower()
    found = _BEYOND.search(words)
    name = found[0] if found else next((n for (n,) in volatile if n not in _HARMLESS and n in words), None)
    if name is not None:
        raise QueryRefused(
            f"The query names {name!r}, which reaches beyond the tables and views of Pixmill. "
            "Ask without it; information_schema describes the tables."
        )


def _limit(connection: psycopg.Connection[Any], deadline: Deadline) -> None:
    deadline.check()
    if deadline.timeout_s is not None:
        connection.execute(f"SET LOCAL statement_timeout = {max(1, int(deadline.left_s * 1000))}".encode())


def _fetch_postgresql(
    connection: psycopg.Connection[Any], cursor: psycopg.ServerCursor[Any], deadline: Deadline
) -> Sequence[Sequence[Any]]:
    with _postgresql_errors(deadline):
        _limit(connection, deadline)
        return cursor.fetchmany(BATCH)


@contextlib.contextmanager
def _postgresql_errors(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise QueryTooSlow(deadline.timeout_s or 0.0) from error
    except Unanswered as error:
        raise DatabaseUnavailable(f"The database cannot be reached: {error}.") from error
    except (psycopg.Error, ValueError, OverflowError) as error:
        raise _refused(error) from error


def _answer(description: Any, fetch: Callable[[], Sequence[Sequence[Any]]]) -> Answer:
    if not description:
        raise QueryRefused("Expected a query that returns rows; questions only read.")
    first = fetch()  # so that most of what can go wrong does before the first byte of the answer
    return Answer([column[0] for column in description], _rows(first, fetch))


def _rows(batch: Sequence[Sequence[Any]], fetch: Callable[[], Sequence[Sequence[Any]]]) -> Iterator[Row]:
    while batch:
        for row in batch:
            yield [plain(value) for value in row]
        batch = fetch()


def plain(value: Any) -> Any:
    """A value as JSON has it: bytes as hexadecimal digits, no number as null, what else there is as text."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | bool) or value is None else str(value)


def _refused(error: Exception) -> QueryRefused:
    words = error.diag.message_primary if isinstance(error, psycopg.Error) else str(error)
    if (words or "").strip() == "not authorized":  # SQLite's word where the statement does more than read
        words = "questions only read what they may; this one would do more"
    return QueryRefused(f"The database refused: {(words or str(error)).strip() or type(error).__name__}")


def _explained(error: Exception, database: Database) -> StoreError:
    return explain(DBAPIError("", None, error), database.where)
