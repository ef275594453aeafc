"""Settings: where each one comes from, and in which order."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.settings import Settings


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PIXMILL_HOME", raising=False)
    (tmp_path / "pixmill.toml").write_text('max_file_mb = 7\nmax_pixels = 8\nhome = "/from/file"\n')
    monkeypatch.setenv("PIXMILL_MAX_FILE_MB", "9")
    settings = Settings()
    assert (settings.max_file_mb, settings.max_pixels, settings.home) == (9, 8, Path("/from/file"))
    assert Settings(max_file_mb=1).max_file_mb == 1


def test_a_child_process_gets_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path, max_pixels=5, engine="fake")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    child = Settings()
    assert child.model_copy(update={"database_url": None, "broker_url": None}) == settings
    assert (child.database, child.broker) == (settings.database, settings.broker)


def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXMILL_ENGINE", "quantum")
    with pytest.raises(ValidationError, match="engine"):
        Settings()


def test_a_relative_database_file_is_the_same_one_for_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(database_url="sqlite:///a.db").database == f"sqlite:///{tmp_path}/a.db"
    assert Settings(database_url="sqlite:////b/c.db?x=1").database == "sqlite:////b/c.db?x=1"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="cannot be shared"):
        Settings(database_url=url)
