"""Every count of the oracle: none on a job that went well, and its own where its damage is planted."""

from pathlib import Path

import pytest

from models.registry import Registry
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.insights import items_left
from store.rows import NewResult
from store.sweep import finish_jobs
from tests.chaos.oracle import judge
from tests.chaos.pictures import Answers, write_folder
from tests.databases import ready
from tests.running import fake_model
from worker.sources.opening import open_source
from worker.submission import Choices, Scan, submit_classify

LATER = """INSERT INTO attempts (token, shard_id, n, worker_id, started_at, ended_at, outcome)
    SELECT 'later', shard_id, 2, worker_id, started_at + {}, ended_at, 'lost' FROM attempts"""
RUN = "INSERT INTO runs (id, name, state, created_at, model_id) VALUES (1, 'n', 'done', 0, {})"
EPOCH = "INSERT INTO epochs (run_id, epoch) VALUES (1, {})"
DAMAGE = {
    "lost": ["DELETE FROM results WHERE idx = 1"],
    "unexpected": ["UPDATE results SET idx = 999 WHERE idx = 1"],
    "strangers": ["UPDATE results SET token = 'nobody' WHERE idx = 1"],
    "mixed": [LATER.format("0.000001"), "UPDATE results SET created_at = created_at + 1"],
    "torn": [LATER.format("60"), "UPDATE results SET token = 'later' WHERE idx = 1"],
    "stuck": ["UPDATE jobs SET state = 'running'"],
    "leases": ["UPDATE shards SET token = 'still'"],
    "open_attempts": ["UPDATE attempts SET outcome = NULL"],
    "uncovered": ["UPDATE shards SET hi = hi - 1"],
    "partial": ["DELETE FROM items WHERE idx >= 10", "UPDATE jobs SET n_items = 10"],
    "half_closed": ["UPDATE shards SET state = 'ready'"],
    "refused": ["UPDATE attempts SET outcome = 'failed', error = 'StoreError: The database x refused: a key'"],
    "unexplained": ["UPDATE attempts SET outcome = 'failed', error = 'KeyError: 3'"],
    "epochs": [RUN.format(1), EPOCH.format(1), EPOCH.format(3)],
    "modelless": [RUN.format("NULL"), EPOCH.format(1)],
    "stray_models": ["UPDATE models SET name = 'fruit'"],
    "wrong": ["UPDATE results SET label = label || '!' WHERE idx = 1"],
    "miscounted": ["UPDATE tallies SET n = n + 1 WHERE kind = 'label'"],
    "damaged": ["PRAGMA foreign_keys = OFF", "DELETE FROM jobs"],
}


def finished(url: str, folder: Path) -> Database:
    """A database with one job, done by nobody but us."""
    fake_model(folder / "home")
    pictures = write_folder(folder / "pictures", 20)
    database = Database(ready(url))
    version = Registry(folder / "home" / "models").get("fake")
    submit_classify(database, Scan(open_source([str(pictures)])), version, Choices())
    lease = claim(database, Claimer("somebody"))
    assert lease
    answers, rows = Answers(), []
    for item in items_left(database, lease):
        answer = answers.of(str(pictures), item.path.decode())
        if answer.status == "ok":
            rows.append(NewResult(item.idx, "ok", label=answer.label, score=answer.score, topk="[]"))
        else:
            rows.append(NewResult(item.idx, "failed", error_code=answer.error_code, error="planted"))
    commit_slice(database, lease, rows, last=True)
    assert finish_jobs(database) == 1
    return database


def test_a_job_that_went_well_leaves_nothing_to_find(database_url: str, tmp_path: Path) -> None:
    database = finished(database_url, tmp_path)
    verdict = judge(database, acknowledged=[1])
    database.close()
    assert verdict.is_clean, str(verdict)
    assert verdict.counts.keys() == {
        *DAMAGE,
        "duplicated",
        "vanished",
        "tracebacks",
    }  # the first: tests/chaos/test_controls.py


@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_is_found(name: str, tmp_path: Path) -> None:
    database = finished(f"sqlite:///{tmp_path}/pixmill.db", tmp_path)
    connection = database.engine.raw_connection()  # without a transaction, in which foreign keys stay on
    for statement in DAMAGE[name]:
        connection.cursor().execute(statement)
    connection.close()
    verdict = judge(database)
    database.close()
    assert verdict.counts[name] > 0, str(verdict)


def test_a_scan_with_something_to_work_on_is_half_a_job(tmp_path: Path) -> None:
    database = finished(f"sqlite:///{tmp_path}/pixmill.db", tmp_path)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'scanning'")
    assert judge(database).counts["partial"] == 1
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM attempts")
        connection.exec_driver_sql("DELETE FROM shards")  # one that died before it had any
    assert judge(database).counts["partial"] == 0
    database.close()


def test_a_job_that_somebody_was_promised_must_be_there(tmp_path: Path) -> None:
    database = finished(f"sqlite:///{tmp_path}/pixmill.db", tmp_path)
    verdict = judge(database, acknowledged=[1, 2])
    database.close()
    assert verdict.counts["vanished"] == 1


def test_a_traceback_counts_unless_a_fault_explains_it(tmp_path: Path) -> None:
    database = finished(f"sqlite:///{tmp_path}/pixmill.db", tmp_path)
    log = tmp_path / "worker.log"
    log.write_text("Traceback (most recent call last):\n  File x\nredis.exceptions.ConnectionError: gone\n")
    found = [
        judge(database, befell=befell, logs=[log]).counts["tracebacks"] for befell in ({"broker_down"}, {"job_paused"})
    ]
    database.close()
    assert found == [0, 1]
