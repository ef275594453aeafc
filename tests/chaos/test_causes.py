"""What is taken for a fault's doing, and what is not: each cause with its fault, without it, and beside others."""

from pathlib import Path

import pytest

from tests.chaos.causes import ATTEMPTS, TRACEBACKS, odd_tracebacks, tracebacks, unexplained

LOST = """2026-01-01 10:00:00,000 ERROR 7 celery.worker.request: Task handler raised error: WorkerLostError('…')
Traceback (most recent call last):
  File "/x/billiard/pool.py", line 1367, in mark_as_worker_lost
    raise WorkerLostError(
billiard.einfo.ExceptionWithTraceback:\x20
\"\"\"
Traceback (most recent call last):
  File "/x/billiard/pool.py", line 1367, in mark_as_worker_lost
    raise WorkerLostError(
    ^^^^^^^^^^^^^^^^^^^^^^
{}
\"\"\"
2026-01-01 10:00:01,000 INFO 7 worker.tasks: on it goes
"""
CHAIN = """Traceback (most recent call last):
  File "socket.py", line 1, in read
ConnectionResetError: [Errno 104] Connection reset by peer

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "connection.py", line 2, in read
redis.exceptions.ConnectionError: Error while reading
"""
FAILED = (
    "the trainer ended with status 1 without an answer; its last words: The failpoint x.y was told to fail. (log: /x)"
)
DIED = "the trainer was ended by {} without an answer; its last words: none (log: /x)"


def test_the_exception_of_each_traceback_is_found_and_of_a_chain_the_last() -> None:
    lost = "billiard.exceptions.WorkerLostError: gone"
    assert list(tracebacks(LOST.format(lost) + CHAIN)) == [
        "billiard.einfo.ExceptionWithTraceback:",
        lost,
        "redis.exceptions.ConnectionError: Error while reading",
    ]


def test_a_traceback_that_was_cut_short_and_a_crash_of_python_are_found() -> None:
    assert list(tracebacks("Traceback (most recent call last):\n  File x")) == ["cut short"]
    assert list(tracebacks("Fatal Python error: Segmentation fault\n\nThread 1:\n")) == [
        "Fatal Python error: Segmentation fault"
    ]


def test_an_exception_that_says_nothing_is_told_with_its_place() -> None:
    frames = 'Traceback (most recent call last):\n  File "/x/pool.py", line 7, in fill\n    return next(free)\n'
    assert list(tracebacks(f"{frames}StopIteration\n")) == ["StopIteration in fill"]
    assert list(tracebacks(f"{frames}KeyError: 7\n")) == ["KeyError: 7"]
    assert unexplained(["StopIteration in fill"], TRACEBACKS, {"kill_child"}) == ["StopIteration in fill"]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("billiard.exceptions.WorkerLostError: Worker exited prematurely", "kill_child"),
        ("redis.exceptions.ConnectionError: Error while reading", "broker_cut"),
        ("StopIteration in get_process_queues", "kill_child"),
        ("worker.training.attempt.TrainerDied: " + DIED.format("SIGKILL"), "kill_trainer"),
        ("sqlalchemy.exc.OperationalError: (psycopg.OperationalError) the connection is lost", "pg_crashed"),
    ],
)
def test_a_traceback_is_explained_by_its_fault_alone(said: str, fault: str) -> None:
    assert unexplained([said], TRACEBACKS, {fault, "hints_doubled"}) == []
    assert unexplained([said], TRACEBACKS, {"hints_doubled"}) == [said]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (DIED.format("SIGKILL"), "kill_trainer"),
        ("DatabaseUnavailable: the database is away", "pg_black_hole"),
        (FAILED, "failpoint_failed"),
    ],
)
def test_a_failed_attempt_is_explained_by_its_fault_alone(said: str, fault: str) -> None:
    assert unexplained([said], ATTEMPTS, {fault}) == []
    assert unexplained([said], ATTEMPTS, {"job_paused"}) == [said]


@pytest.mark.parametrize("said", [DIED.format("SIGSEGV"), "KeyError: 'label'", "", "IncompleteShard: shard 3"])
def test_other_causes_are_no_faults_doing(said: str) -> None:
    assert unexplained([said], ATTEMPTS, {"kill_child", "pg_crashed", "sqlite_full", "broker_cut"}) == [said]


def test_what_hides_inside_of_an_explained_traceback_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "worker-cpu.log"
    log.write_text(LOST.format("KeyError: 'label'"))
    assert list(odd_tracebacks([log], {"kill_child"})) == ["worker-cpu.log: KeyError: 'label'"]
