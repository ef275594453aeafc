"""Workers and the broker die in the middle of a job: every image still ends as exactly one row."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.killing import kill_broker, kill_child, kill_parent, worker_parents
from tests.running import Home, eventually, fake_model, running, write_images, write_slow
from tests.servers import new_postgres_database

IMAGES = 1200
HOOKS = Path(__file__).parents[1] / "chaos" / "hooks"
CLASSIFY = ("--queues", "classify")  # one worker for each device


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that take some milliseconds each, so that the faults meet work."""
    return write_slow(tmp_path_factory.mktemp("photos"), IMAGES)


def classified(home: Home) -> int:
    rows = home.sql("SELECT classified FROM v_job_totals")
    return int(rows[0]["classified"]) if rows else 0


@pytest.mark.parametrize("kill", [kill_child, kill_parent, kill_broker])
def test_a_kill_in_the_middle_costs_no_row_and_doubles_none(
    fake_home: Home, photos: Path, kill: Callable[[Home], None]
) -> None:
    with running(fake_home, "classify", photos, "--no-reuse", "--json") as process:
        eventually(lambda: classified(fake_home) > 0)
        with suppress(psutil.NoSuchProcess):
            kill(fake_home)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(out.splitlines()) == IMAGES
    (totals,) = fake_home.sql(
        "SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d, COUNT(*) FILTER (WHERE status = 'ok') AS ok FROM results"
    )
    assert totals == {"n": IMAGES, "d": IMAGES, "ok": IMAGES}
    assert fake_home.sql("SELECT COUNT(*) AS n FROM shards WHERE state <> 'done'") == [{"n": 0}]
    if kill is not kill_broker:
        assert fake_home.sql("SELECT COUNT(*) AS n FROM attempts WHERE outcome = 'lost'") != [{"n": 0}]


def test_killing_the_command_leaves_nothing_running_and_resume_finishes_the_job(fake_home: Home, photos: Path) -> None:
    process = fake_home.start("classify", photos, "--no-reuse")
    eventually(lambda: classified(fake_home) > 0)
    process.kill()
    process.communicate()
    eventually(lambda: not fake_home.processes(), 10, "the end of broker and worker")
    assert "jobs follow 1" in fake_home.run("jobs", "show", 1).stdout
    assert "Job 1 is still open" in fake_home.run("classify", photos, "--detach").stderr
    fake_home.run("jobs", "cancel", 2)
    fake_home.run("jobs", "resume", 1)
    assert fake_home.json("jobs", "show", 1, "--json")[0]["classified"] == IMAGES


def test_two_devices_share_a_job_and_a_killed_worker_comes_back(fake_home: Home, photos: Path) -> None:
    with running(fake_home, "worker", "--devices", "GPU-aaaa0000-1,GPU-bbbb0000-2", *CLASSIFY) as supervisor:
        eventually(lambda: len(worker_parents(fake_home)) == 2)
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        eventually(lambda: len(fake_home.sql("SELECT DISTINCT worker_id FROM attempts")) == 2)
        first = worker_parents(fake_home)[0]
        visible = {p.environ()["CUDA_VISIBLE_DEVICES"] for p in worker_parents(fake_home)}
        assert visible == {"GPU-aaaa0000-1", "GPU-bbbb0000-2"}
        first.kill()  # its child dies with it; the supervisor starts another one on the same device
        eventually(lambda: fake_home.sql("SELECT state FROM v_job_totals") == [{"state": "done"}], 60)
        supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate(timeout=60)
        assert supervisor.returncode == 0
    rows = fake_home.sql("SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results")
    assert rows == [{"n": IMAGES, "d": IMAGES}]


def test_a_device_has_one_worker_at_a_time_across_supervisors(fake_home: Home, tmp_path: Path) -> None:
    """Two supervisors want the same GPU: the second waits for the lock until the first is gone."""
    write_images(tmp_path / "photos", 20)
    device = f"GPU-cccc{os.getpid() % 10000:04}-3"
    with running(fake_home, "worker", "--devices", device, *CLASSIFY) as first:
        eventually(lambda: len(worker_parents(fake_home)) == 1)
        fake_home.run("classify", tmp_path / "photos", "--detach")
        eventually(lambda: fake_home.sql("SELECT state FROM v_job_totals") == [{"state": "done"}])
        holders = fake_home.sql("SELECT pid FROM workers")
        with running(fake_home, "worker", "--devices", device, *CLASSIFY):
            eventually(lambda: len(worker_parents(fake_home)) == 2)
            fake_home.run("classify", tmp_path / "photos", "--detach", "--no-reuse")
            eventually(lambda: fake_home.sql("SELECT state FROM v_job_totals WHERE job_id = 2") == [{"state": "done"}])
            assert fake_home.sql("SELECT pid FROM workers") == holders
            first.send_signal(signal.SIGTERM)
            first.communicate(timeout=60)
            fake_home.run("classify", tmp_path / "photos", "--detach", "--no-reuse")
            eventually(lambda: fake_home.sql("SELECT state FROM v_job_totals WHERE job_id = 3") == [{"state": "done"}])
            assert fake_home.sql("SELECT pid FROM workers") != holders


def test_the_parent_of_a_busy_worker_never_imports_a_framework(fake_home: Home, photos: Path) -> None:
    with running(fake_home, "classify", photos, "--no-reuse"):
        eventually(lambda: classified(fake_home) > 0)
        (parent,) = worker_parents(fake_home)
        loaded = {Path(mapping.path).name for mapping in parent.memory_maps()}
    assert any(name.startswith("_multiprocessing") or "python" in name for name in loaded)
    for framework in ("tensorflow", "openvino", "jaxlib", "torch"):
        assert not [name for name in loaded if framework in name], framework


def test_sigterm_drains_a_worker_quickly_and_the_job_waits(fake_home: Home, photos: Path) -> None:
    with running(fake_home, "worker", "--devices", "cpu") as supervisor:
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        eventually(lambda: classified(fake_home) > 0)
        before = time.monotonic()
        supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate(timeout=60)
        assert time.monotonic() - before < 20
    assert fake_home.sql("SELECT COUNT(*) AS n FROM shards WHERE state = 'leased'") == [{"n": 0}]
    assert fake_home.sql("SELECT COUNT(*) AS n FROM attempts WHERE outcome IS NULL") == [{"n": 0}]
    fake_home.run("jobs", "follow", 1)
    assert classified(fake_home) == IMAGES


def test_the_same_job_on_postgresql_with_a_killed_child(home: Home, photos: Path, postgres: str) -> None:
    home.environment["PIXMILL_DATABASE_URL"] = new_postgres_database(postgres)
    fake_model(home.path)
    with running(home, "classify", photos, "--no-reuse", "--json") as process:
        eventually(lambda: classified(home) > 0)
        with suppress(psutil.NoSuchProcess):
            kill_child(home)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(set(out.splitlines())) == IMAGES
    assert home.sql("SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results") == [{"n": IMAGES, "d": IMAGES}]


def test_a_rolling_restart_with_an_upgrade_in_the_middle_loses_and_doubles_nothing(
    home: Home, photos: Path, postgres: str
) -> None:
    """As after an update: the schema first, then one worker after the other, while the rest go on."""
    home.environment |= {"PIXMILL_DATABASE_URL": new_postgres_database(postgres)}
    home.environment |= {"PYTHONPATH": str(HOOKS), "CHAOS_BATCH_S": "0.4"}  # so that there is work all the time
    fake_model(home.path)
    one, other = (("worker", "--devices", device, *CLASSIFY) for device in ("GPU-aaab0000-1", "GPU-bbba0000-2"))
    with running(home, *other) as second:
        with running(home, *one) as first:
            home.run("classify", photos, "--no-reuse", "--detach")
            eventually(lambda: len(home.sql("SELECT DISTINCT worker_id FROM attempts")) == 2, what="work for both")
            first.send_signal(signal.SIGTERM)
            home.run("db", "upgrade")
            first.communicate(timeout=60)
        with running(home, *one):
            second.send_signal(signal.SIGTERM)
            home.run("db", "upgrade")
            second.communicate(timeout=60)
            assert (first.returncode, second.returncode) == (0, 0)
            eventually(lambda: home.sql("SELECT state FROM v_job_totals") == [{"state": "done"}], 60, "its end")
    assert home.sql("SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results") == [{"n": IMAGES, "d": IMAGES}]
    ends = home.sql("SELECT DISTINCT outcome FROM attempts ORDER BY outcome")
    assert ends == [{"outcome": "done"}, {"outcome": "released"}]  # none lost: a drain gives back what it holds


def stopped_with_work(home: Home, parents: list[psutil.Process]) -> bool:
    """Stop a worker; whether it holds a shard. If not, it goes on."""
    processes = [one for parent in parents for one in (*parent.children(), parent)]
    for process in processes:
        process.suspend()
    held = "SELECT COUNT(*) AS n FROM shards WHERE state = 'leased' AND worker_id LIKE '%gpu-ffff0000'"
    if home.sql(held) == [{"n": 1}]:
        return True
    for process in processes:
        process.resume()
    return False


def test_a_lost_machine_is_survived_by_another_worker(fake_home: Home, photos: Path) -> None:
    """One supervisor with its worker vanishes in the middle of a shard; the other's worker takes the shard over."""
    fake_home.environment["PIXMILL_LEASE_S"] = "3"
    with (
        running(fake_home, "worker", "--devices", "GPU-eeee0000-1", *CLASSIFY),
        running(fake_home, "worker", "--devices", "GPU-ffff0000-2", *CLASSIFY) as lost,
    ):
        eventually(lambda: len(worker_parents(fake_home)) == 2)
        fake_home.run("classify", photos, "--no-reuse", "--detach")
        doomed = [one for one in worker_parents(fake_home) if one.environ()["PIXMILL_DEVICE"] == "GPU-ffff0000-2"]
        eventually(lambda: stopped_with_work(fake_home, doomed), 60, "a moment with work in hand")
        lost.kill()
        eventually(lambda: not any(one.is_running() for one in doomed), 10, "the end of the lost worker")
        eventually(lambda: fake_home.sql("SELECT state FROM v_job_totals") == [{"state": "done"}], 60)
    taken_over = """SELECT COUNT(*) AS n FROM attempts a JOIN attempts b ON b.shard_id = a.shard_id AND b.n > a.n
        WHERE a.outcome = 'lost' AND a.worker_id LIKE '%gpu-ffff0000' AND b.outcome = 'done'
        AND b.worker_id LIKE '%gpu-eeee0000'"""
    assert fake_home.sql(taken_over)[0]["n"] >= 1
    assert fake_home.sql("SELECT COUNT(*) AS n, COUNT(DISTINCT idx) AS d FROM results") == [{"n": IMAGES, "d": IMAGES}]
