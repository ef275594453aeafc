"""`pixmill up` in parts: the port, the folders, the signals, and an API that cannot run."""

import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cli.errors import CommandError, Exit
from cli.listening import Place, find_roots, free_port
from cli.standing import Api, Observer
from cli.up import _run, _signals
from store.database import Database
from tests.running import eventually
from worker.kept import Program
from worker.settings import Settings
from worker.supervisor import Supervisor


def test_a_free_port_is_itself_and_zero_finds_one() -> None:
    found = free_port("127.0.0.1", 0)
    assert 0 < found < 65536
    assert free_port("127.0.0.1", found) == found
    assert free_port("localhost", 0) > 0


def test_a_taken_port_says_so_and_a_left_connection_does_not_count() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with pytest.raises(CommandError, match=f"Port {port} of 127.0.0.1 is taken by another program"):
            free_port("127.0.0.1", port)
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            accepted, _ = server.accept()
            accepted.close()  # the server's side closes first: its end stays for a minute
            client.recv(1)
    assert free_port("127.0.0.1", port) == port


def test_folders_come_from_the_command_then_the_settings_then_on_loopback_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("named", "set", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    plain, chosen = Settings(home=tmp_path / "home"), Settings(home=tmp_path / "home", roots=(tmp_path / "set",))
    assert find_roots([Path("../named")], chosen, "127.0.0.1") == (tmp_path / "named",)
    assert find_roots([], chosen, "192.0.2.1") == (tmp_path / "set",)
    assert find_roots([], plain, "localhost") == (tmp_path / "here",)
    with pytest.raises(CommandError, match="name the folders"):
        find_roots([], plain, "192.0.2.1")


def test_signals_are_counted_and_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with _signals() as told:
        told.wait(0)
        assert told.times == 0
        os.kill(os.getpid(), signal.SIGTERM)
        told.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        eventually(lambda: told.times == 2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_api_that_cannot_run_ends_up_with_its_last_words(tmp_path: Path, home_database: Database) -> None:
    settings = Settings(home=tmp_path / "home")
    log = settings.log_folder / "api.log"
    command = [sys.executable, "-c", "print('Error: the sky is falling.'); raise SystemExit(5)"]
    program = Program("api", "The API", command, log, settings.run_folder, hopeless=(Exit.NOT_ALLOWED,))
    supervisor = Supervisor(settings, (), queues=(), programs=[program])
    observer = Observer(supervisor, home_database, Api("127.0.0.1", 1, log))
    with _signals() as told:
        supervisor.start()
        with pytest.raises(CommandError, match=r"The API cannot run here: the sky is falling\. Log: .*api\.log"):
            _run(supervisor, observer, Place("127.0.0.1", 1, (tmp_path,)), told)
    assert supervisor.ended
    assert not settings.socket.exists()


def test_an_address_of_ipv6_stands_in_brackets(tmp_path: Path) -> None:
    assert Place("::1", 8420, (tmp_path,)).url == "http://[::1]:8420"
    assert Place("127.0.0.1", 8420, (tmp_path,)).url == "http://127.0.0.1:8420"
