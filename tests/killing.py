"""Finding and killing the processes of a home."""

import psutil

from tests.running import Home, command_of


def worker_parents(home: Home) -> list[psutil.Process]:
    return [p for p in home.processes() if is_worker(p) and not is_worker(p.parent())]


def is_worker(process: psutil.Process | None) -> bool:
    return process is not None and command_of(process)[2:4] == ["-m", "worker"]


def kill_child(home: Home) -> None:
    for parent in worker_parents(home):
        for child in parent.children():
            child.kill()


def kill_parent(home: Home) -> None:
    for parent in worker_parents(home):
        parent.kill()


def kill_broker(home: Home) -> None:
    brokers = [p for p in home.processes() if "valkey" in p.name() or "redis" in p.name()]
    assert brokers, "there is no broker to kill"
    for process in brokers:
        process.kill()
