"""The command line when its server is not there, says no, or goes away; and when a person lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.running import Home, eventually, write_images
from tests.serving import Served, end, free_port, serving


def pixmill(home: Home, environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        home.command(*arguments), env={**home.env(), **environment}, cwd=home.path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextmanager
def following(served: Served, job: str) -> Iterator[subprocess.Popen[str]]:
    """A command that follows a job; it has asked for the job often enough to wait for its events now."""
    process = subprocess.Popen(
        served.home.command("jobs", "follow", job), env={**served.env(), "PYTHONFAULTHANDLER": "1"},
        cwd=served.home.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    asked = f'/api/v1/jobs/{job}"'
    try:
        eventually(lambda: "\n".join(logs(served)).count(asked) >= 3 or process.poll() is not None, 60, "following")
        yield process
    finally:
        process.send_signal(signal.SIGABRT)  # one that does not end when it is asked to says where it is
        sys.stderr.write(process.communicate()[1])


def logs(served: Served) -> Iterator[str]:
    for path in (served.home.path / "served.log", *served.home.path.glob("logs/*")):
        if path.is_file():
            yield path.read_text(errors="replace")


def submitted(served: Served, photos: Path) -> str:
    """A job that nobody works on."""
    write_images(photos, 3)
    environment = {"PIXMILL_SERVER": served.url, "PIXMILL_TOKEN": served.token}
    return pixmill(served.home, environment, "classify", photos, "--detach").stdout.strip()


def test_a_server_that_is_not_there_is_said_to_be_unreachable(fake_home: Home) -> None:
    (fake_home.path / "pixmill.db").unlink()
    server = f"http://127.0.0.1:{free_port()}"
    for command in (
        ["jobs", "list"],
        ["models", "list"],
        ["doctor"],
        ["classify", fake_home.path],
        ["sql", "SELECT 1"],
    ):
        done = pixmill(fake_home, {"PIXMILL_SERVER": server}, *command)
        assert done.returncode == 3, (command, done.stderr)
        assert server in done.stderr
        assert "pixmill up" in done.stderr
    assert not (fake_home.path / "pixmill.db").exists()


def test_what_is_no_address_is_refused(fake_home: Home) -> None:
    done = pixmill(fake_home, {"PIXMILL_SERVER": "ftp://example.org"}, "jobs", "list")
    assert (done.returncode, "PIXMILL_SERVER" in done.stderr) == (2, True)


def test_commands_of_this_machine_say_so(fake_home: Home) -> None:
    done = pixmill(fake_home, {"PIXMILL_SERVER": "http://127.0.0.1:9"}, "db", "upgrade")
    assert done.returncode == 0
    assert "works on this machine" in done.stderr


def test_tokens_decide_what_a_command_may_do(fake_home: Home, tmp_path: Path) -> None:
    with serving(fake_home, [tmp_path]) as served:
        job = submitted(served, tmp_path / "photos")
        server = {"PIXMILL_SERVER": served.url}
        assert pixmill(fake_home, {**server, "PIXMILL_TOKEN": "pxm_wrong"}, "jobs", "list").returncode == 5
        reader = {**server, "PIXMILL_TOKEN": served.token_for("", "read")}
        assert pixmill(fake_home, reader, "jobs", "show", job).returncode == 0
        assert pixmill(fake_home, reader, "jobs", "cancel", job).returncode == 5
        stranger = {**server, "PIXMILL_TOKEN": served.token_for("somebody", "submit")}
        assert pixmill(fake_home, stranger, "jobs", "show", job).returncode == 4
        own = pixmill(fake_home, server, "jobs", "show", job)  # the home's own token, on this machine
        assert own.returncode == 0, own.stderr


def test_ctrl_c_lets_go_of_a_job_that_goes_on(fake_home: Home, tmp_path: Path) -> None:
    with serving(fake_home, [tmp_path]) as served:
        job = submitted(served, tmp_path / "photos")
        with following(served, job) as process:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert f"jobs follow {job}" in err
        assert f"jobs cancel {job}" in err
        assert served.client.get(f"{served.api}/jobs/{job}").json()["state"] == "accepted"


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_says_how_to_follow_again(fake_home: Home, tmp_path: Path) -> None:
    with serving(fake_home, [tmp_path]) as served:
        job = submitted(served, tmp_path / "photos")
        assert served.process is not None
        with following(served, job) as process:
            os.kill(served.process.pid, signal.SIGKILL)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert f"jobs follow {job}" in err
    assert "cannot be reached" in err


def test_following_waits_for_a_server_that_is_just_starting(fake_home: Home, tmp_path: Path) -> None:
    """The very first question meets a closed port, as behind a supervisor that starts the API again."""
    with serving(fake_home, [tmp_path]) as served:
        job = submitted(served, tmp_path / "photos")
        port = served.url.rpartition(":")[2]
    command = fake_home.command("jobs", "follow", job)
    follower = subprocess.Popen(
        command, env=served.env(), cwd=fake_home.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    api = None
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            follower.wait(3)  # long enough to have been refused, shorter than its patience
        api = subprocess.Popen(
            fake_home.command("api", "--port", port, "--root", tmp_path), env=fake_home.env(), cwd=fake_home.path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: _asks(served, "/livez") is not None, 30, "the server")
        headers = {"Authorization": f"Bearer {served.token}"}
        httpx2.post(f"{served.api}/jobs/{job}/cancel", headers=headers).raise_for_status()
        _, said = follower.communicate(timeout=60)
        assert follower.returncode == 7, said
    finally:
        follower.kill()
        follower.communicate()
        if api is not None:
            end(api)


def _asks(served: Served, path: str) -> httpx2.Response | None:
    try:
        return httpx2.get(f"{served.url}{path}", timeout=5)
    except httpx2.TransportError:
        return None
