"""The hot queries use their indexes; asserted by EXPLAIN, on PostgreSQL with enough rows to matter."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from store import jobs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.evaluations import flips
from store.memory import recall
from store.rows import NewItem, NewJob, NewResult
from tests.databases import ready
from tests.servers import new_postgres_database


@pytest.fixture
def big(postgres: str) -> Iterator[Database]:
    """Three jobs, 3,000 shards."""
    database = Database(new_postgres_database(postgres))
    model = register_model(database, ("birds", 1), "d" * 64, ["a", "b"], "{}", "/m")
    for _ in range(3):
        jobs.accept(database, NewJob(model, max_shard=1), (NewItem(b"%d.jpg" % n) for n in range(1000)))
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO memo SELECT decode(md5(n::text), 'hex'), 1, 'file', 1, n FROM generate_series(1, 20000) n"
            )
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    yield database
    database.close()


def plans(database: Database, action: object) -> str:
    """The plans of every statement that an action runs."""
    seen: list[tuple[str, object]] = []

    def note(_c: object, _cur: object, statement: str, parameters: object, _ctx: object, _many: bool) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    assert callable(action)
    action()
    event.remove(database.engine, "before_cursor_execute", note)
    lines: list[str] = []
    with database.read() as connection:
        for statement, parameters in seen:
            if statement.lstrip().upper().startswith(("SELECT", "UPDATE")):
                answer = connection.exec_driver_sql("EXPLAIN " + statement, parameters)  # type: ignore[arg-type]  # as they came
                lines += [row[0] for row in answer]
    return "\n".join(lines)


def test_claiming_a_shard_reads_no_table_from_end_to_end(big: Database) -> None:
    plan = plans(big, lambda: claim(big, Claimer("w")))
    assert "ix_shards_job_id_state_lo" in plan
    assert "Seq Scan on shards" not in plan


def test_recalling_answers_uses_the_key(big: Database) -> None:
    plan = plans(big, lambda: recall(big, 1, 1, [b"x" * 16]))
    assert "pk_memo" in plan
    assert "Seq Scan on memo" not in plan


def test_comparing_two_evaluations_does_not_compare_each_image_with_each(tmp_path: Path) -> None:
    """SQLite's own count of its steps: about 0.2 million; 9 million pairs would be far beyond the limit."""
    database = Database(ready(f"sqlite:///{tmp_path}/pixmill.db"))
    evaluations = []
    for version in (1, 2):
        model = register_model(database, ("birds", version), str(version) * 64, ["a", "b"], "{}", "/m")
        found = (NewItem(b"%d.jpg" % n, label="a") for n in range(3000))
        evaluations.append(jobs.accept(database, NewJob(model), found))
        while lease := claim(database, Claimer("w")):
            rows = [
                NewResult(n, "ok", label="ab"[n % version], score=0.9, topk="[]", content_hash=b"%016d" % n)
                for n in range(lease.lo, lease.hi)
            ]
            commit_slice(database, lease, rows, last=True)

    @event.listens_for(database.engine, "begin")
    def _limit(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(lambda: 1, 3_000_000)

    assert len(flips(database, *evaluations).lost) == 1500
    database.close()
