"""A database by URL: connections, the two kinds of transaction, and SQLite's settings (docs/decisions/0003)."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from store.errors import DatabaseUnavailable
from store.explaining import explain

if TYPE_CHECKING:
    from store.answering import Patient

# At the top: TensorFlow brings a SQLite of its own, which takes the wheel's place where it is loaded first.
try:
    from pysqlite3 import dbapi2

    WHEEL: ModuleType | None = dbapi2
except ImportError:  # there are wheels for the common platforms only
    WHEEL = None

log = logging.getLogger(__name__)

# Older SQLite can corrupt a WAL database when two connections write or checkpoint at the same moment
# (sqlite.org/wal.html#walresetbug; research/reliability §4.1).
WAL_SAFE = (3, 51, 3)
BUSY_TIMEOUT_MS = 30_000
PATIENCE_S = BUSY_TIMEOUT_MS / 1000
# Threads of a SQLite file that wait to write hold a connection each: more than the 40 of requests, with those beside.
FILE_POOL = {"pool_size": 20, "max_overflow": 60}
# Whoever stands still between two statements of a transaction for so long is stopped: PostgreSQL ends it, and so gives
# its locks to others, who wait for them PATIENCE_S. What it wanted to write is not written.
STANDSTILL_S = 10
ACKNOWLEDGED_S = 15  # what was sent to PostgreSQL and is not received for so long has met a dead machine or network


def sqlite_module() -> ModuleType:
    """The newer of the wheel's SQLite and Python's own."""
    if WHEEL is None or sqlite3.sqlite_version_info > WHEEL.sqlite_version_info:
        return sqlite3
    return WHEEL


@contextmanager
def _one_journal(module: ModuleType, where: str) -> Iterator[None]:
    """While a journal is chosen: a file whose journal cannot be changed now has been opened with the other one."""
    try:
        yield
    except module.OperationalError as error:
        if module.sqlite_version_info >= WAL_SAFE or "locked" not in str(error):
            raise
        raise _mixed(module, where) from error


def _mixed(module: ModuleType, where: str) -> DatabaseUnavailable:
    """An older SQLite must not write a file that a newer one writes with WAL at the same time."""
    return DatabaseUnavailable(
        f"The database {where} is open in a Pixmill with a newer SQLite. This one has {module.sqlite_version}, which "
        "can corrupt it then (docs/decisions/0003). Run all of Pixmill from one environment, or stop the other first."
    )


# For PostgreSQL, in a transaction that reads most of a large table. Elsewhere a scan of the table is what the planner
# takes when it expects much of a job that is small, since it does not know which it is (columns.Unguessed).
SCANS = "SET LOCAL enable_seqscan = on"
# Statements of one connection that the server keeps prepared: those of all questions about results that are remembered
# (`store.question`). With the driver's hundred, whoever asks 150 in turn never meets one again.
PREPARED = 300
# So that the statements of a transaction see one moment, as they do in SQLite.
ONE_MOMENT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"


class Database:
    """One database and its connection pool. Make it in the process that uses it: connections do not survive a fork."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        """Prepare, without connecting. Raises DatabaseUnavailable for a URL that is neither SQLite nor PostgreSQL.

        `patience_s`: how long a transaction waits for a lock, and how long for a free connection.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise DatabaseUnavailable(
                f"Expected a database URL like sqlite:////path/pixmill.db, got {url!r}."
            ) from error
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise DatabaseUnavailable(f"Expected a sqlite: or postgresql: URL, got {parsed.get_backend_name()!r}.")
        if parsed.get_backend_name() == "postgresql" and parsed.get_driver_name() != "psycopg":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        self.patience_s = patience_s
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.where = str(parsed.database) if self.is_sqlite else parsed.render_as_string(hide_password=True)
        self.engine: Engine = self._sqlite_engine() if self.is_sqlite else self._postgresql_engine()

    def _sqlite_engine(self) -> Engine:
        module = sqlite_module()
        # Ours is read by one process after the other; a connection may move between threads of the pool.
        is_file = self.url.database not in (None, "", ":memory:")
        pool: dict[str, Any] = {**FILE_POOL, "pool_timeout": self.patience_s} if is_file else {}
        engine = create_engine(self.url, module=module, connect_args={"check_same_thread": False}, **pool)
        journal = "WAL" if module.sqlite_version_info >= WAL_SAFE else "TRUNCATE"

        @event.listens_for(engine, "connect")
        def _connect(dbapi: Any, _: ConnectionPoolEntry) -> None:
            dbapi.isolation_level = None  # the driver begins nothing by itself; `_begin` below does
            dbapi.execute(f"PRAGMA busy_timeout={self.patience_s * 1000:.0f}")
            with _one_journal(module, self.where):
                dbapi.execute(f"PRAGMA journal_mode={journal}")
            dbapi.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            kind = connection.get_execution_options().get("pixmill", "read")
            if kind == "read":
                connection.exec_driver_sql("BEGIN")
            else:
                # A promise given to a person is synced; results that a power cut takes are computed again.
                connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if kind == 'durable' else 'NORMAL'}")
                # IMMEDIATE: a reader that turns writer later fails at once with SQLITE_BUSY_SNAPSHOT, whatever the
                # timeout.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            if journal == "TRUNCATE":
                connection.exec_driver_sql("PRAGMA schema_version").scalar()  # reads what the file says of itself now
                if connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal":
                    raise _mixed(module, self.where)

        return engine

    def _postgresql_engine(self) -> Engine:
        from store.answering import Server  # psycopg, which a SQLite file does not need
        from store.pooling import ping_idle

        settings = f"-c idle_in_transaction_session_timeout={STANDSTILL_S}s "
        settings += f"-c lock_timeout={self.patience_s * 1000:.0f}ms "
        settings += "-c enable_seqscan=off "  # what is asked of one job has an index; see SCANS for the rest
        settings += "-c jit=off"  # it would compile a page of a hundred rows where the average job is large
        server = Server()
        engine = create_engine(
            self.url,
            pool_timeout=self.patience_s,
            connect_args={
                "connect_timeout": 5,
                "options": settings,
                # The first for what waits for an answer, the second for what was sent; Linux has both.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": ACKNOWLEDGED_S * 1000,
                "application_name": "pixmill",
            },
        )

        @event.listens_for(engine, "do_connect")
        def _connect(_: Dialect, __: ConnectionPoolEntry, arguments: Any, parameters: Any) -> Patient:
            made = server.connect(*arguments, **parameters)
            made.prepared_max = PREPARED
            return made

        ping_idle(engine)
        return engine

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[Connection]:
        with self._errors(), self.engine.connect().execution_options(pixmill=kind) as connection, connection.begin():
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What the driver and the pool raise as StoreError."""
        try:
            yield
        except DBAPIError as error:
            raise explain(error, self.where) from error
        except self.engine.dialect.loaded_dbapi.Error as error:  # the driver's own, where a connection is prepared
            raise explain(OperationalError("", None, error), self.where) from error
        except PoolTimeout as error:
            raise DatabaseUnavailable(
                f"Expected a connection to the database {self.where} within {self.patience_s:g} s, "
                "but all of them stayed in use. Try again."
            ) from error

    @contextmanager
    def read(self, *settings: str) -> Iterator[Connection]:
        """A connection that only reads. Raises StoreError.

        In SQLite its statements see one moment. In PostgreSQL each sees what is committed when it begins, in a
        transaction or not; so there is none, whose begin and end would be two more exchanges with the server.
        `settings` are statements for PostgreSQL only (SET LOCAL, SET TRANSACTION), and make one transaction of it.
        """
        if self.is_sqlite or settings:
            with self._transaction("read") as connection:
                for setting in () if self.is_sqlite else settings:
                    connection.exec_driver_sql(setting)
                yield connection
            return
        with self._errors(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction that writes; a `durable` one survives a power cut once it returns. Raises StoreError."""
        with self._transaction("durable" if durable else "write") as connection:
            yield connection

    def prepare_folder(self) -> None:
        """Make the folder of a SQLite file. Raises DatabaseUnavailable where that is not possible."""
        if not self.is_sqlite or not self.url.database:
            return
        folder = Path(self.url.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(f"The folder {folder} cannot be made: {error.strerror}.") from error

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
