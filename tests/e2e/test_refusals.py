"""Wrong requests are refused before anything starts, in words, with the right exit code."""

from pathlib import Path

from tests.e2e.conftest import Refused, Wrong
from tests.running import Home, write_images


def test_wrong_requests_are_told_what_to_do(fake_home: Home, tmp_path: Path, refused: Refused) -> None:
    (fake_home.path / "pixmill.db").unlink()
    write_images(tmp_path / "photos", 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("x")
    (tmp_path / "list.csv").write_text("name,label\na.png,b\n")
    cases: list[Wrong] = [
        (("classify", tmp_path / "fotos"), 4, "photos"),
        (("classify", tmp_path / "empty"), 2, "empty"),
        (("classify", tmp_path / "texts"), 2, ".txt"),
        (("classify", tmp_path / "list.csv"), 2, "file_name"),
        (("classify", tmp_path / "photos", "--model", "fakee"), 4, "Did you mean fake"),
        (("classify", tmp_path / "photos", "--model", "fake@9"), 4, "fake@1"),
        (("classify", tmp_path / "photos", "--top-k", "99"), 2, "less than or equal to 20"),
        (("classify", tmp_path / "photos", "--out", tmp_path / "x.xls"), 2, ".parquet"),
        (("classify", tmp_path / "photos", "--device", "7"), 2, "no device '7'"),
        (("classify",), 2, "paths"),
        (("jobs", "show", "7"), 4, "jobs"),
        (("sql", "DROP TABLE jobs"), 4, "no database"),
        (("frobnicate",), 2, "frobnicate"),
    ]
    refused(fake_home, cases)
    assert not (fake_home.path / "pixmill.db").exists() or fake_home.json("jobs", "list", "--json") == []


def test_without_any_model_it_says_how_to_get_one(home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 2)
    assert "models import" in home.run("classify", tmp_path / "photos", code=4).stderr


def test_sql_only_reads(fake_home: Home, tmp_path: Path) -> None:
    assert "only read" in fake_home.run("sql", "DELETE FROM jobs", code=2).stderr
    assert fake_home.json("sql", "SELECT 'a:b' AS x", "--json") == [{"x": "a:b"}]
    assert "syntax" in fake_home.run("sql", "SELEKT 1", code=2).stderr


def test_a_database_of_another_version_is_refused(fake_home: Home, tmp_path: Path) -> None:
    import sqlite3

    write_images(tmp_path / "photos", 2)
    with sqlite3.connect(fake_home.path / "pixmill.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    done = fake_home.run("classify", tmp_path / "photos", code=1)
    assert "newer version" in done.stderr


def test_a_file_that_is_no_database_is_refused(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 2)
    (fake_home.path / "pixmill.db").write_text("this is not a database" * 100)
    assert "SQLite" in fake_home.run("classify", tmp_path / "photos", code=3).stderr


def test_a_home_that_cannot_be_written_is_refused(home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 2)
    (tmp_path / "file").write_text("")
    home.environment["PIXMILL_HOME"] = str(tmp_path / "file" / "home")
    done = home.run("classify", tmp_path / "photos", code=5)
    assert "PIXMILL_HOME" in done.stderr


def test_an_unreachable_database_is_told_so(home: Home) -> None:
    home.environment["PIXMILL_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/none"
    assert "cannot be reached" in home.run("jobs", "list", code=3).stderr


def test_a_wrong_setting_is_named(home: Home) -> None:
    home.environment["PIXMILL_MAX_PIXELS"] = "many"
    assert "PIXMILL_MAX_PIXELS" in home.run("doctor", code=2).stderr


def test_a_folder_called_models_where_the_user_stands_is_harmless(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    trap = tmp_path / "trap"
    for name in ("models", "worker", "store", "cli"):
        (trap / name).mkdir(parents=True)
        (trap / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    fake_home.run("classify", tmp_path / "photos", cwd=trap)


def test_a_job_whose_model_is_gone_fails_with_the_reason(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    fake_home.run("classify", tmp_path / "photos", "--detach")
    fake_home.run("models", "rm", "fake@1")
    done = fake_home.run("jobs", "follow", 1, code=1)
    assert "There is no model 'fake'. `pixmill models list` shows" in done.stderr  # not "Did you mean fake?"
    assert fake_home.sql("SELECT state FROM v_job_totals") == [{"state": "failed"}]
    assert fake_home.sql("SELECT COUNT(*) AS n FROM shards WHERE state IN ('ready', 'leased')") == [{"n": 0}]


def test_a_worker_that_cannot_start_ends_the_command_instead_of_hanging(fake_home: Home, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 3)
    (fake_home.path / "run").mkdir()
    (fake_home.path / "run" / "cpu.lock").mkdir()  # a folder where the lock should be
    done = fake_home.run("classify", tmp_path / "photos", code=1)
    assert "No worker can run here" in done.stderr
    assert "logs" in done.stderr


def test_what_makes_no_sense_afterwards_is_refused_too(fake_home: Home, tmp_path: Path, refused: Refused) -> None:
    write_images(tmp_path / "photos", 3)
    fake_home.run("classify", tmp_path / "photos")
    (tmp_path / "file").touch()
    cases: list[Wrong] = [
        (("jobs", "retry", 1), 2, "nothing to run again"),
        (("jobs", "resume", 1), 2, "cannot be resumed"),
        (("sort", 1, tmp_path / "photos" / "sorted"), 2, "inside"),
        (("sort", 1, tmp_path / "file"), 2, "is a file"),
        (("sql", "SELECT 1; SELECT 2"), 2, "one statement"),
        (("sql", "SELECT 1 UNION ALL SELECT abs(-9223372036854775808)"), 2, "overflow"),
        (("results", 1, "--format", "csv", "--out", tmp_path / "a.parquet"), 2, "disagree"),
        (("classify", tmp_path / "photos", "--detach", "--out", tmp_path / "a.csv"), 2, "--detach"),
        (("worker", "--engine", "foo"), 2, "--engine"),
        (("models", "import", tmp_path / "file", "--crop", "foo"), 2, "--crop"),
        (("models", "pull", "efficientnetv2_b0"), 4, "efficientnetv2_b0_imagenet_classifier"),
    ]
    refused(fake_home, cases)


def test_a_home_without_jobs_has_an_empty_list(home: Home) -> None:
    assert home.json("jobs", "list", "--json") == []
    assert "No jobs yet" in home.run("jobs", "list").stderr
