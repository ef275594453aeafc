"""Killed at every named point, a job ends with one right row for each image, on both databases.

Every change gets each point once, on one of the databases: half a minute, most of it spent waiting. The long dose is
`PIXMILL_LONG=1 PIXMILL_FAILPOINT_ROUNDS=20 ./do test tests/chaos/test_failpoints.py -n 0 -s`; it says how long each
recovery took. A point in a worker kills that; one in the supervisor, or in a submission, kills the program that a
person started, and that person starts it again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial

import pytest
import redis
from _pytest.mark.structures import ParameterSet

from store import jobs
from store.failpoints import NAMES
from tests.chaos.armed import (
    LEASE_S,
    PATIENCE_S,
    ROUNDS,
    World,
    at_ease,
    is_stopped,
    quantiles,
    resume,
    stand_still,
    world,
)
from tests.databases import ready
from tests.running import command_of, eventually
from tests.servers import new_postgres_database

ENGINES = ("sqlite", "postgresql")
IN_WORKER = (
    "claim.before",
    "claim.inside",
    "claim.after",
    "pipeline.prepare",
    "pipeline.predict",
    "slice.before",
    "commit.fenced",
    "commit.inserted",
    "commit.after",
    "renew.before",
    "release.before",
    "finish.before",
)
IN_SUPERVISOR = ("sweep.before", "publish.before", "publish.after")
IN_SUBMISSION = ("accept.inside", "accept.after")
IN_TRAINING = tuple(name for name in NAMES if name.startswith(("checkpoint.", "model.")))
BY_THE_WAY = ("claim", "pipeline", "slice", "commit")  # come by more than once in a job
STOPPED = {"commit.fenced", "commit.after"}  # at these also in the short dose; a kill comes at every point
LONG_LEASE_S = 300.0  # nobody waits for its end here
AT_ONCE_S = 5.0  # from the new worker's word that it is ready until all that its predecessor held is claimed again
ZOMBIE_S = 2.0  # a short lease, so that it is soon over

recoveries: dict[str, list[float]] = defaultdict(list)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[dict[str, World]]:
    """A home on each database, whose supervisor lives as long as no point kills it."""
    folder = tmp_path_factory.mktemp("failpoints")
    sqlite = ready(f"sqlite:///{folder}/sqlite/home/pixmill.db")
    server = new_postgres_database(request.getfixturevalue("postgres"))
    with world(folder / "sqlite", sqlite) as one, world(folder / "postgresql", server) as other:
        yield {"sqlite": one, "postgresql": other}
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print()  # noqa: T201  a report
        for name in NAMES:
            if recoveries[name]:
                print(f"{name:18} {quantiles(recoveries[name])}")  # noqa: T201


def rounds(names: tuple[str, ...], short: Collection[str] = NAMES) -> list[ParameterSet]:
    """Each point with a database in turn: name, database, number of the round. In the short dose only some of them."""
    return [
        pytest.param(name, ENGINES[(place + n) % 2], n, marks=() if name in short else pytest.mark.long)
        for n in range(ROUNDS)
        for place, name in enumerate(names)
    ]


def test_every_point_is_killed_at() -> None:
    assert {*IN_WORKER, *IN_SUPERVISOR, *IN_SUBMISSION, *IN_TRAINING, "sweep.expired"} == set(NAMES)


def test_workers_know_where_the_points_are(worlds: dict[str, World]) -> None:
    for here in worlds.values():
        here.start()
        whole = partial(has_processes, here, 4)  # supervisor, broker, worker and its child
        eventually(whole, PATIENCE_S, "the worker")
        seen = [p.environ().get("PIXMILL_FAILPOINTS") for p in here.home.processes() if "worker" in command_of(p)]
        assert set(seen) == {str(here.points.folder)}


def has_processes(here: World, count: int) -> bool:
    return len(here.home.processes()) >= count


@pytest.mark.parametrize(("name", "engine", "n"), rounds(IN_WORKER))
def test_a_worker_killed_at_a_point_costs_no_row(worlds: dict[str, World], name: str, engine: str, n: int) -> None:
    here = worlds[engine]
    here.start()
    often = name.startswith(BY_THE_WAY)
    here.points.arm(name, f"after {n % 3} kill" if often and n % 3 else "kill")
    job = DEEDS.get(name, just_submit)(here)
    killed = here.points.wait(name)
    here.mend(killed)  # a sweeper finishes jobs too
    if name == "release.before":
        jobs.resume(here.database, job)
    here.finished(job)
    took = here.recovered(job, killed.time)
    recoveries[name].append(took)
    assert took < (LEASE_S + 10) * at_ease()


def just_submit(here: World) -> int:
    return here.submit()


def with_a_beat(here: World) -> int:
    """Results wait for a second: their leases are renewed."""
    here.points.arm("slice.before", "sleep 1")
    return here.submit()


def with_a_pause(here: World) -> int:
    """The job is paused while the worker claims another shard of it: it gives that back."""
    here.points.arm("claim.after", "after 1 sleep 3")
    job = here.submit()
    here.points.wait("claim.after")
    jobs.pause(here.database, job)
    return job


DEEDS: dict[str, Callable[[World], int]] = {"renew.before": with_a_beat, "release.before": with_a_pause}


@pytest.mark.parametrize(("name", "engine", "n"), rounds(IN_SUBMISSION))
def test_a_submission_killed_at_a_point_is_whole_or_not_there(
    worlds: dict[str, World], name: str, engine: str, n: int
) -> None:
    here = worlds[engine]
    here.start()
    before = here.sql("SELECT COALESCE(MAX(id), 0) AS id FROM jobs")[0]["id"]
    here.points.arm(name)
    submit = ("classify", here.photos, "--detach", "--no-reuse")
    assert here.home.run(*submit, code=None).returncode == -9
    killed = here.points.wait(name)
    (job,) = here.sql(f"SELECT id, state FROM jobs WHERE id > {before}")
    if name == "accept.after":
        here.finished(int(job["id"]))
        recoveries[name].append(here.recovered(int(job["id"]), killed.time))
        return
    assert job["state"] == "scanning"
    here.home.run(*submit)  # nobody was told of the first one: the person says it again
    (_, again) = here.sql(f"SELECT id FROM jobs WHERE id > {before} ORDER BY id")
    here.finished(int(again["id"]))
    recoveries[name].append(here.recovered(int(again["id"]), killed.time))
    with here.database.write() as connection:  # ten minutes later
        connection.exec_driver_sql(f"UPDATE jobs SET claimed_at = claimed_at - 700 WHERE id = {job['id']}")
    eventually(lambda: not here.sql(f"SELECT 1 FROM jobs WHERE id = {job['id']}"), 30, "the dead scan's end")


@pytest.mark.parametrize(("name", "engine", "n"), rounds(("sweep.expired",)))
def test_a_sweeper_killed_while_it_ends_a_lease_ends_it_the_next_time(
    worlds: dict[str, World], name: str, engine: str, n: int
) -> None:
    here = worlds[engine]
    here.start()
    here.points.arm("slice.before", "hold")
    job = here.submit()
    stand_still(here.points.folder, here.points.wait("slice.before").pid, here.database)
    here.points.arm(name)
    killed = here.points.wait(name)
    here.revive()
    here.finished(job)
    recoveries[name].append(here.recovered(job, killed.time))


@pytest.mark.parametrize(("name", "engine", "n"), rounds(IN_SUPERVISOR))
def test_a_supervisor_killed_at_a_point_goes_on_at_once_when_it_is_started_again(
    worlds: dict[str, World], name: str, engine: str, n: int
) -> None:
    here = worlds[engine]
    here.start(LONG_LEASE_S)
    here.points.arm("slice.before", "sleep 30")  # so that shards are held when the supervisor dies
    job = here.submit(items=480)
    here.points.wait("slice.before")
    here.points.arm(name)
    with suppress(redis.ConnectionError):  # where it has come by the point already, and its broker went with it
        here.flush_broker()  # or hints enough may lie there
    killed = here.points.wait(name)
    here.revive()
    ready = here.worker_ready(killed.time)
    here.finished(job)
    took = here.recovered(job, killed.time) - (ready - killed.time)
    recoveries[name].append(took)
    assert here.lost(job) > 0
    assert took < AT_ONCE_S * at_ease()  # nobody waited for the lease


ZOMBIES = ("slice.before", "commit.fenced", "commit.inserted", "commit.after")


@pytest.mark.parametrize(("name", "engine", "n"), rounds(ZOMBIES, STOPPED))
def test_a_worker_stopped_at_a_point_until_its_lease_is_over_doubles_nothing(
    worlds: dict[str, World], name: str, engine: str, n: int
) -> None:
    """Inside a transaction nobody can take its shard: what it writes then is right. Outside, it is fenced off."""
    here = worlds[engine]
    here.start(ZOMBIE_S)
    here.points.arm(name, f"after {n % 3} stop" if n % 3 else "stop")
    job = here.submit()
    stopped = here.points.wait(name)
    eventually(lambda: is_stopped(stopped.pid), what="the stop")
    eventually(lambda: time.time() > stopped.time + 1.5 * ZOMBIE_S, what="the end of its lease")
    resume(stopped.pid)
    here.finished(job)
