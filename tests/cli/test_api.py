"""`pixmill api`: what it says, what it refuses to do, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import stat
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from api.guards_host import EVERYWHERE
from tests.running import Home
from tests.serving import serving


@pytest.fixture
def home(tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    return Home(folder)


def test_the_first_start_makes_a_token_that_only_the_owner_can_read(home: Home, tmp_path: Path) -> None:
    with serving(home, [tmp_path]) as served:
        assert served.client.get("/api/v1/whoami").json()["scopes"] == ["read", "submit", "admin"]
        assert stat.S_IMODE((home.path / "token").stat().st_mode) == 0o600
        said = (home.path / "served.log").read_text()
        assert f"Pixmill answers at {served.url}" in said
        assert f'curl -H "Authorization: Bearer $(cat {home.path / "token"})"' in said
        assert served.token not in said
    with serving(home, [tmp_path]) as again:
        assert again.token == served.token
        assert again.client.get("/api/v1/whoami").status_code == 200


def test_a_token_that_does_not_work_any_more_is_made_anew(home: Home, tmp_path: Path) -> None:
    (home.path / "token").write_text("pxm_abcdefgh_" + "x" * 43)
    with serving(home, [tmp_path]) as served:
        assert served.client.get("/api/v1/whoami").status_code == 200
        assert stat.S_IMODE((home.path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(home: Home, tmp_path: Path, number: signal.Signals) -> None:
    with serving(home, [tmp_path]) as served:
        assert served.process
        with httpx2.stream("GET", f"{served.url}/livez") as kept:  # a connection that stays open
            kept.read()
            served.process.send_signal(number)
            assert served.process.wait(30) == 0
    assert (home.path / "served.log").read_text().rstrip().endswith("Stopped.")


def test_every_line_of_the_log_is_an_object_with_its_request(home: Home, tmp_path: Path) -> None:
    with serving(home, [tmp_path]) as served:
        served.client.get("/api/v1/whoami", headers={"X-Request-ID": "find-me"})
    lines = [line for line in (home.path / "served.log").read_text().splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines]
    (mine,) = (line for line in found if line.get("request_id") == "find-me")
    assert (mine["event"], mine["method"], mine["path"], mine["status"]) == ("request", "GET", "/api/v1/whoami", 200)
    assert mine["token"]
    assert mine["at"].endswith("Z")
    assert served.token not in "".join(lines)
    assert {"level", "logger", "at"} <= set(mine)


@pytest.mark.parametrize("host", [*EVERYWHERE[:2], "192.0.2.1", "example.org"])
def test_it_does_not_open_to_others_without_roots(home: Home, host: str) -> None:
    done = home.run("api", "--host", host, "--port", 0, code=2)
    assert "--root" in done.stderr
    assert not (home.path / "token").exists()


def test_a_root_that_is_no_folder_is_refused(home: Home, tmp_path: Path) -> None:
    assert "expected a folder" in home.run("api", "--root", tmp_path / "absent", code=4).stderr


def test_a_port_that_is_taken_is_said(home: Home) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = home.run("api", "--port", taken.getsockname()[1], code=2)
    assert "--port chooses another one" in done.stderr
