"""The whole API against its own description, by schemathesis: every operation, all checks, calls chained.

PIXMILL_EXAMPLES (examples per operation; the long run is 1000), PIXMILL_SEED (a number, or `random`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from store.database import Database
from store.sweep import finish_jobs
from tests.chaos.servers import Broker
from tests.mixed_results import mixed_job
from tests.running import Home, eventually, fake_model, write_images
from tests.servers import new_postgres_database
from tests.serving import Served, serving

EXAMPLES = int(os.environ.get("PIXMILL_EXAMPLES", "4"))
SEED = os.environ.get("PIXMILL_SEED", "20261122")
PHASES = "examples,coverage,fuzzing,stateful"
BRIEF = "examples,fuzzing"  # where only one kind of answer is looked for
OUTAGE = PHASES if EXAMPLES >= 100 else BRIEF  # the long run asks all of a server with a fault too
REPOSITORY = Path(__file__).parents[2]
# Linux: PR_CAPBSET_DROP of CAP_DAC_OVERRIDE, for the program that takes this one's place. Others may not, and need not.
NO_OVERRIDE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
SLOWEST_S = 20.0  # on a busy machine; a hang is longer


@contextmanager
def served(tmp_path: Path, **said: Any) -> Iterator[Served]:
    """A server with a model, a folder of photos and one finished look at them; without limits that a fuzzer meets."""
    home = Home(tmp_path / "home", {"PIXMILL_LIMIT_REQUESTS_PER_MINUTE": "0", "PIXMILL_ALLOW_PRIVATE_WEBHOOKS": "0"})
    home.path.mkdir()
    fake_model(home.path)
    photos = tmp_path / "photos"
    write_images(photos, 5)
    with serving(home, [photos], **said) as server:
        yield server


def examine(
    server: Served, tmp_path: Path, *more: str, checks: str = "all", phases: str = PHASES
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with the server's token."""
    seed = str(random.randrange(2**32)) if SEED == "random" else SEED
    options = {
        "header": f"Authorization: Bearer {server.token}",
        "phases": phases,
        "seed": seed,
        "checks": checks,
        "exclude-checks": "positive_data_acceptance",
        "max-examples": str(EXAMPLES),
        "request-timeout": str(SLOWEST_S),
        "suppress-health-check": "all",
    }
    command = [
        *(sys.executable, "-P", "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"),
        *(word for name, value in options.items() for word in (f"--{name}", value)),
        *more,
    ]
    environment = {
        **os.environ,
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis"),
        "SCHEMATHESIS_HOOKS": "tests.api.contract_checks",
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)


def warm(server: Served, photos: Path) -> None:
    """Classify something, so that a worker has its model loaded and /readyz says so."""
    body = {"kind": "classify", "source": {"folder": str(photos)}}
    answer = server.client.post("/api/v1/jobs", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 202, answer.text
    eventually(lambda: server.client.get("/readyz").status_code == 200, 30, "a warm worker")


def assert_clean(answer: subprocess.CompletedProcess[str]) -> None:
    """No failure; what schemathesis said otherwise, with its seed."""
    assert answer.returncode == 0, answer.stdout[-12_000:] + answer.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.timeout(900 + 40 * EXAMPLES)
def test_every_operation_does_what_the_description_says(tmp_path: Path) -> None:
    with served(tmp_path, workers=1) as server:
        warm(server, tmp_path / "photos")
        assert_clean(examine(server, tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(900 + 40 * EXAMPLES)
def test_a_frozen_broker_gives_no_error_and_no_hang(tmp_path: Path) -> None:
    with served(tmp_path, workers=1) as server:
        warm(server, tmp_path / "photos")
        with frozen(brokers(server)):
            answer = examine(server, tmp_path, "--exclude-path", "/readyz", checks="not_a_server_error", phases=OUTAGE)
        assert_clean(answer)


@pytest.mark.slow
@pytest.mark.timeout(900 + 40 * EXAMPLES)
def test_a_broker_that_is_down_gives_no_error_and_no_hang(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    broker.start()
    url = f"redis+socket://{broker.socket}"
    with ExitStack() as stack:
        stack.callback(broker.stop)
        server = stack.enter_context(served(tmp_path, workers=1, broker_url=url))
        warm(server, tmp_path / "photos")
        broker.stop()  # from here on, whoever connects is refused
        answer = examine(server, tmp_path, "--exclude-path", "/readyz", checks="not_a_server_error", phases=OUTAGE)
        ready = server.client.get("/readyz?verbose")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready"), ready.text
        assert_clean(answer)


@pytest.mark.slow
@pytest.mark.timeout(900 + 40 * EXAMPLES)
def test_a_database_that_only_reads_gives_503_and_never_500(tmp_path: Path, postgres: str) -> None:
    # Of its own: the server's other databases must go on taking tables.
    url = new_postgres_database(postgres)
    with served(tmp_path, database_url=url) as server:
        name = make_url(url).database
        with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                "AND application_name = 'pixmill'"
            )
        examine_what_only_reads(server, tmp_path)


class Unprivileged(Home):
    """A home whose commands have no right over files but their owner's: root's would write any file."""

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-c", NO_OVERRIDE, *super().command(*arguments)]


@pytest.mark.slow
@pytest.mark.timeout(900 + 40 * EXAMPLES)
def test_a_file_that_only_reads_gives_503_and_never_500(tmp_path: Path) -> None:
    with served(tmp_path) as server:  # makes the token
        file = server.home.path / "pixmill.db"
        database = Database(f"sqlite:///{file}")
        mixed_job(database, 20)
        finish_jobs(database)
        database.close()
    file.chmod(0o444)
    home = Unprivileged(server.home.path, server.home.environment)
    with serving(home, [tmp_path / "photos"]) as server:
        assert server.client.get("/api/v1/jobs/1").status_code == 200
        examine_what_only_reads(server, tmp_path)


def examine_what_only_reads(server: Served, tmp_path: Path) -> None:
    """No answer is a 500 or missing, and it is the database that refuses."""
    refused = server.client.post("/api/v1/uploads", json={})
    assert refused.status_code == 503, refused.text
    assert "read-only" in refused.json()["detail"]
    report = tmp_path / "seen.ndjson"
    options = ("--report", "ndjson", "--report-ndjson-path", str(report))
    answer = examine(server, tmp_path, *options, checks="not_a_server_error", phases=OUTAGE)
    seen = Counter(status for line in report.read_text().splitlines() for status in _statuses(json.loads(line)))
    # Most of what a fuzzer sends is refused before the database is asked; this many were refused because of it.
    assert seen[503] >= 3, seen
    assert not {status for status in seen if status >= 500} - {501, 503}, answer.stdout[-12_000:]
    assert "Network Error" not in answer.stdout, answer.stdout[-12_000:]


def _statuses(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        if isinstance(value.get("status_code"), int):
            yield value["status_code"]
        for inner in value.values():
            yield from _statuses(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _statuses(inner)


def brokers(server: Served) -> list[psutil.Process]:
    """The embedded broker of a `pixmill up`."""
    assert server.process is not None
    below = psutil.Process(server.process.pid).children(recursive=True)
    found = [process for process in below if "valkey-server" in process.name() or "redis-server" in process.name()]
    assert found, "there is no broker to freeze"
    return found


@contextmanager
def frozen(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stopped, not ended: connections stay open and nothing answers."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
