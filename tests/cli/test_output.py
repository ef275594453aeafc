"""What a person and a program read."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from cli.clock import clock
from cli.errors import CommandError, Exit, exit_code, message
from cli.export import rows_in
from cli.output import describe, emit_json, name_text, program
from cli.sort import folder_name
from cli.speed import Speed
from models.errors import UnknownModel
from store.errors import SchemaMismatch, UnknownJob
from tests.cli.conftest import Pixmill, Told
from worker.sources.errors import NoSuchPath


def test_every_kind_of_mistake_has_its_exit_code() -> None:
    assert exit_code(CommandError("x", Exit.CANCELLED)) == 7
    assert exit_code(UnknownJob(3)) == 4
    assert exit_code(UnknownModel("x")) == 4
    assert exit_code(NoSuchPath("x", "a folder")) == 4
    assert exit_code(SchemaMismatch("x")) == 1
    assert exit_code(PermissionError(13, "Permission denied")) == 5
    assert exit_code(ZeroDivisionError()) is None


def test_the_version_is_told(pixmill: Pixmill) -> None:
    assert pixmill("--version") == Told(0, f"pixmill {version('pixmill')}\n", "")


def test_the_table_of_exit_codes_names_classes_that_exist() -> None:
    import importlib

    from cli.errors import TABLE

    for module, name, _ in TABLE:
        assert issubclass(getattr(importlib.import_module(module), name), Exception)


def test_an_error_of_the_system_is_told_in_words() -> None:
    assert message(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory."


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (61.4, "1:01"), (3661, "1:01:01"), (86400, "24:00:00")])
def test_times_are_short(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_the_speed_is_that_of_the_last_seconds() -> None:
    speed = Speed()
    for second in range(60):
        speed.note(second * (10 if second < 30 else 100), float(second))
    assert speed.rate == 100
    assert speed.left(6000) == "1:00"


def test_counts_fit_one_line() -> None:
    assert describe({".txt": 10, ".db": 2}) == ".txt 10, .db 2"
    assert describe({f".{n}": n for n in range(1, 10)}, limit=2) == ".9 9, .8 8 and 7 more kinds"


@pytest.mark.parametrize(
    ("label", "folder"),
    [("cat", "cat"), ("a/b", "a_b"), ("..", "_."), ("", "_"), ("eagle, bald", "eagle, bald"), ("\x00x", "x")],
)
def test_a_label_never_leads_out_of_the_folder(label: str, folder: str) -> None:
    assert folder_name(label) == folder


def test_names_that_are_not_utf8_can_be_printed() -> None:
    assert name_text(b"caf\xe9.jpg") == "caf\\xe9.jpg"


def test_hints_name_the_command_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMILL_COMMAND", "./do pixmill")
    assert program() == "./do pixmill"
    done = subprocess.run(
        [sys.executable, "-m", "cli", "jobs", "show", "7"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_a_number_that_is_none_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"loss": float("nan"), "history": [{"loss": float("inf")}, {"loss": 0.5}]})
    assert capsys.readouterr().out == '{"loss": null, "history": [{"loss": null}, {"loss": 0.5}]}\n'


def test_the_rows_of_a_file_are_counted_whatever_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('name,why\r\n"a\nb ""c"",",x\r\nd,y\r\n')
    (tmp_path / "a.jsonl").write_text('{"a": "\\"b"}\n{}\n')
    assert [rows_in(tmp_path / name) for name in ("a.csv", "a.jsonl")] == [2, 2]
