"""Questions are answered; what would change, reach out or never end is refused, on both databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from store import tokens
from store.asking import BATCH, QueryRefused, QueryTooSlow, ask
from store.database import Database
from tests.store.conftest import AcceptJob

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT"
ANYWHERE = [
    "DELETE FROM jobs",
    "UPDATE jobs SET owner = 'me' RETURNING id",
    "INSERT INTO jobs (id) VALUES (7)",
    "WITH gone AS (DELETE FROM jobs RETURNING id) SELECT * FROM gone",
    "DROP TABLE jobs",
    "CREATE TABLE mine (a INTEGER)",
    "SELECT 1; DELETE FROM jobs",
    "SELECT 1; COMMIT; DELETE FROM jobs",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "ANALYZE",
    "REINDEX",
    "",
    ";",
    "-- nothing",
    "SELECT",
    "SELECT 'a\0b'",
    "SELECT '\ud800'",
    "SELECT " + "1," * 60_000 + "1",
    "SELECT no_such_column FROM jobs",
    "SELECT * FROM tokens",
    "SELECT count(*) FROM Tokens",
    'SELECT secret FROM "webhooks"',
]
SQLITE = [
    "ATTACH DATABASE '{outside}' AS other",
    "DETACH DATABASE main",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('jobs')",
    "VACUUM INTO '{outside}'",
    "SELECT load_extension('{outside}')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('{outside}', 'x')",
    "CREATE VIRTUAL TABLE temp.files USING csv(filename='/etc/passwd')",
    "SELECT CAST(x'ff' AS TEXT)",
]
POSTGRESQL = [
    "COPY jobs TO '{outside}'",
    "COPY (SELECT 1) TO PROGRAM 'touch {outside}'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_catalog.pg_read_binary_file('/etc/passwd')",
    "SELECT \"pg_read_file\"('/etc/passwd')",
    "SELECT U&\"\\0070g_read_file\"('/etc/passwd')",
    'SELECT u& "x"',
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '{outside}')",
    "SELECT query_to_xml('SELECT pg_read_' || 'file(''/etc/passwd'')', true, true, '')",
    "SELECT table_to_xml(('p' || 'g_authid')::regclass, true, true, '')",
    "SELECT schema_to_xml(('p' || 'g_catalog')::name, true, true, '')",
    "SELECT * FROM ts_stat('SELECT 1')",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT set_config('role', 'none', false)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_sleep(100)",
    "SELECT nextval('jobs_id_seq')",
    "SELECT * FROM pg_authid",
    "SELECT query FROM pg_stat_activity",
    "SELECT 1 INTO mine",
    "SELECT id FROM jobs FOR UPDATE",
    "DO $$ BEGIN DELETE FROM jobs; END $$",
    "SET TRANSACTION READ WRITE",
    "LOCK TABLE jobs",
    "LISTEN jobs",
    "PREPARE gone AS DELETE FROM jobs",
    "EXPLAIN ANALYZE DELETE FROM jobs",
    "CREATE EXTENSION dblink",
    "LOAD 'dblink'",
]


def rows(database: Database, query: str, timeout_s: float | None = 20) -> list[list[Any]]:
    with ask(database, query, timeout_s=timeout_s) as answer:
        return list(answer.rows)


def test_a_question_is_answered_with_names_and_values_that_json_has(database: Database) -> None:
    query = "SELECT 1 AS one, 'x' AS word, NULL AS absent, 1.5 AS half, ':a' AS colon, 100 % 7 AS rest"
    with ask(database, query) as answer:
        assert answer.columns == ["one", "word", "absent", "half", "colon", "rest"]
        (row,) = answer.rows
    assert [row[0], row[1], row[2], float(row[3]), row[4], row[5]] == [1, "x", None, 1.5, ":a", 2]
    hexed = "SELECT x'00ff'" if database.is_sqlite else "SELECT '\\x00ff'::bytea, 'NaN'::float8, now()"
    found = rows(database, hexed)[0]
    assert found[0] == "00ff"
    assert found[1:2] in ([], [None])


def test_views_answer_and_no_rows_are_no_error(database: Database, accept_job: AcceptJob) -> None:
    job = accept_job(3)
    assert rows(database, f"SELECT job_id, found FROM v_job_totals WHERE job_id = {job}") == [[job, 3]]
    assert rows(database, "SELECT * FROM v_results WHERE label LIKE 'a%'") == []


def test_rows_come_in_any_number(database: Database) -> None:
    count = 3 * BATCH + 1
    query = f"WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {count}) SELECT n FROM t"
    assert [row[0] for row in rows(database, query)] == list(range(1, count + 1))


def test_what_is_no_question_is_refused_and_changes_nothing(
    database: Database, accept_job: AcceptJob, tmp_path: Path
) -> None:
    tokens.create(database, name="t", owner="", scopes=frozenset({"admin"}))
    job, outside = accept_job(2), tmp_path / "outside"
    for query in [*ANYWHERE, *(SQLITE if database.is_sqlite else POSTGRESQL)]:
        try:
            found: object = rows(database, query.replace("{outside}", str(outside)))
        except QueryRefused:
            found = "refused"
        assert found == "refused", query[:80]
        assert not outside.exists(), query[:80]
        assert rows(database, "SELECT id, owner FROM jobs") == [[job, ""]], query[:80]
    with database.write() as connection:  # and the pool's connections still write
        connection.exec_driver_sql("UPDATE jobs SET priority = 3")


@pytest.mark.parametrize("what", ["n FROM t", "count(*) FROM t", "max(n) FROM t", "n FROM t WHERE n < 0"])
def test_an_endless_question_ends_at_its_deadline(database: Database, what: str) -> None:
    with pytest.raises(QueryTooSlow, match=r"0\.5 s"):
        rows(database, f"{ENDLESS} {what}", timeout_s=0.5)
    assert rows(database, "SELECT 1") == [[1]]


def test_a_question_that_is_left_in_the_middle_leaves_nothing_behind(database: Database) -> None:
    with ask(database, f"{ENDLESS} n FROM t") as answer:
        assert next(answer.rows) == [1]
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET priority = 3")
