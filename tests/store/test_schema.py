"""Migrations up and down with data, on both databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from store import insights, jobs, runs, schema
from store.claims import Claimer, claim, release
from store.commits import commit_slice
from store.corrections import correct, withdraw
from store.database import Database
from store.errors import DatabaseUnavailable, SchemaMismatch
from store.rows import NewItem, NewJob, NewResult
from store.run_data import write_survey
from store.tables import metadata
from store.views import definitions
from tests.store.conftest import AcceptJob, epoch, ok_results, train
from tests.store.test_run_data import survey

VIEWS = tuple(definitions("sqlite"))


def test_the_head_constant_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_the_migrations_give_exactly_the_tables_of_the_metadata(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []


def test_a_database_with_data_goes_down_and_up_again(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease), last=True)
    assert insights.job(database, job_id).classified == 3
    schema.downgrade(database, "base")
    assert schema.current(database) is None
    schema.upgrade(database)
    schema.check(database)
    assert insights.list_jobs(database) == []


def test_trainings_go_down_one_version_and_up_again_with_what_both_can_hold(
    database: Database, accept_training: AcceptJob, model_id: int
) -> None:
    job_id = accept_training()
    lease = train(database)
    write_survey(database, lease, survey())
    for n in (1, 2):
        runs.add_epoch(database, lease, epoch(n))
    runs.set_model(database, lease, model_id, 2, 1.0)
    runs.finish_run(database, lease, "done")
    before = runs.run_of_job(database, job_id)
    schema.downgrade(database, "0001")
    with database.read() as connection:
        curve = connection.execute(text("SELECT run, epoch, loss FROM v_run_curve ORDER BY epoch")).all()
    assert [tuple(row) for row in curve] == [("finches", 1, 1.0), ("finches", 2, 0.5)]
    schema.upgrade(database)
    schema.check(database)
    after = runs.run_of_job(database, job_id)
    assert (after.name, after.state, after.recipe, after.fingerprint) == (
        *(before.name, before.state, before.recipe, before.fingerprint),
    )
    assert (after.model, after.epochs, after.finished_at) == ("birds@1", 2, before.finished_at)
    assert len(after.uid) == 32
    assert after.uid != before.uid
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []


def tables_of_0003(database: Database) -> list[list[tuple[object, ...]]]:
    """What 0003 counts anew from older data, and the small tables that it makes anew."""
    queries = (
        "SELECT job_id, idx, agrees FROM results ORDER BY job_id, idx",
        "SELECT job_id, kind, value, n FROM tallies WHERE n > 0 ORDER BY job_id, kind, value",
        "SELECT id, owner FROM runs ORDER BY id",
        "SELECT id, job_id, at, kind, data FROM events ORDER BY id",
        "SELECT id, job_id, idx, label, author, created_at FROM corrections ORDER BY id",
    )
    with database.read() as connection:
        return [[tuple(row) for row in connection.execute(text(query))] for query in queries]


def test_results_of_an_older_version_are_counted_and_compared_when_it_is_upgraded(
    database: Database, model_id: int, accept_training: AcceptJob
) -> None:
    labels = ("robin", "wren", None)
    found = (NewItem(b"%d.jpg" % n, label=labels[n % 3]) for n in range(20))
    job_id = jobs.accept(database, NewJob(model_id, owner="ann"), found)
    lease = claim(database, Claimer("w"))
    assert lease
    rows = [
        NewResult(n, "failed", error_code="empty", error="")
        if n % 5 == 4
        else NewResult(n, "ok", label="robin", score=n / 19, topk="[]")
        for n in range(20)
    ]
    commit_slice(database, lease, rows, last=True)
    accept_training()
    with database.write() as connection:
        connection.execute(text("UPDATE jobs SET owner = 'bob' WHERE kind = 'finetune'"))
        connection.execute(text("UPDATE runs SET owner = 'bob'"))
    correct(database, job_id, 1, "wren", "ann")
    before = tables_of_0003(database)
    assert all(before)
    schema.downgrade(database, "0002")
    schema.upgrade(database)
    schema.check(database)
    assert tables_of_0003(database) == before
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []


def test_what_an_older_version_cannot_hold_of_corrections_goes(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    for idx in (0, 1):
        correct(database, job_id, idx, "wren", "ann")
    withdraw(database, job_id, 1, "ann")
    with database.write() as connection:
        connection.execute(text("UPDATE corrections SET created_at = 5"))
    correct(database, job_id, 0, "robin", "ann")
    with database.write() as connection:
        connection.execute(text("UPDATE corrections SET created_at = 5"))
    schema.downgrade(database, "0002")
    with database.read() as connection:
        kept = connection.execute(text("SELECT idx, label FROM corrections ORDER BY idx")).all()
    assert [tuple(row) for row in kept] == [(0, "robin"), (1, "wren")]
    schema.upgrade(database)


def test_the_curve_of_a_run_marks_its_best_epoch_and_its_restarts(
    database: Database, accept_training: AcceptJob
) -> None:
    accept_training()
    for attempt in (1, 2):
        lease = train(database)
        runs.add_epoch(database, lease, epoch(attempt, best=attempt == 1))
        release(database, lease)
    with database.read() as connection:
        query = "SELECT run, epoch, phase, val_top5, is_best, restarted FROM v_run_curve ORDER BY epoch"
        assert [tuple(row) for row in connection.execute(text(query))] == [
            ("finches", 1, "head", 1.0, 1, 0),
            ("finches", 2, "head", 1.0, 0, 1),
        ]
        query = "SELECT run, state, base, best_epoch, epochs FROM v_runs"
        assert tuple(connection.execute(text(query)).one()) == ("finches", "running", "birds@1", 1, 2)


def test_every_documented_view_can_be_queried(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease), last=True)
    with database.read() as connection:
        for view in VIEWS:
            connection.execute(text(f"SELECT * FROM {view}")).all()
        row = connection.execute(text("SELECT path, label, model, status FROM v_results ORDER BY idx")).first()
        assert row is not None
        assert tuple(row) == ("/photos/00000.jpg", "robin", "birds@1", "ok")
        totals = connection.execute(text("SELECT found, classified, failed, pending FROM v_job_totals")).one()
        assert tuple(totals) == (3, 3, 0, 0)


def test_an_empty_database_is_refused_until_it_is_upgraded(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with pytest.raises(SchemaMismatch, match="pixmill db upgrade"):
        schema.check(database)
    schema.ensure(database)
    schema.check(database)
    database.close()


@pytest.mark.parametrize(("version", "advice"), [("0000", "pixmill db upgrade"), ("9999", "newer version")])
def test_a_database_of_another_version_is_refused_with_what_to_do(
    database: Database, version: str, advice: str
) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    with pytest.raises(SchemaMismatch, match=advice):
        schema.ensure(database)


def test_two_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def upgrade(_: int) -> None:
        database = Database(empty_database_url)
        schema.ensure(database)
        database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, range(4)))


@pytest.mark.parametrize("url", ["mysql://x/y", "not a url", "sqlite+nothing"])
def test_a_url_that_is_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="Expected a"):
        Database(url)
