"""Migrations up and down with data, on both databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from store import insights, schema
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import DatabaseUnavailable, SchemaMismatch
from store.tables import metadata
from tests.store.conftest import AcceptJob, ok_results

VIEWS = ("v_results", "v_failures", "v_job_totals", "v_confusion", "v_model_diff", "v_run_curve")


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


def test_an_empty_database_is_refused_until_it_is_upgraded(database_url: str) -> None:
    database = Database(database_url)
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


def test_two_processes_may_upgrade_at_once(database_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def upgrade(_: int) -> None:
        database = Database(database_url)
        schema.ensure(database)
        database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, range(4)))


@pytest.mark.parametrize("url", ["mysql://x/y", "not a url", "sqlite+nothing"])
def test_a_url_that_is_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="Expected a"):
        Database(url)
