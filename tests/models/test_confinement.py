import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def port() -> Iterator[int]:
    """A server on this very host, which a process without a network cannot reach either."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@contextmanager
def listening(path: Path) -> Iterator[None]:
    """A server at a file, which is reached without a network."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield


def tried(fence: str, tmp_path: Path, port: int, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    script = [sys.executable, "-P", str(Path(__file__).with_name("confined_acts.py"))]
    with listening(folder / "socket"):
        done = subprocess.run(
            [*prefix, *script, fence, str(folder), str(port)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_behind_all_fences_only_files_inside_and_libraries_are_left(tmp_path: Path, port: int) -> None:
    results = tried("all", tmp_path, port)
    done = {act for act, outcome in results.items() if outcome == "done"}
    allowed = {"write inside", "rename inside", "write to null", "read inside", "read a library"}
    held = set(results["held"])
    if "landlock" not in held:  # the audit hook does not see what C does
        done -= {"write outside in C", "read outside in C", "signal in C"}
    if "calls" not in held:
        done -= {"connect to a file in C"}
    if not {"landlock", "calls"} & held:
        done -= {"run in C"}
    if not {"landlock", "namespace", "calls"} & held:
        done -= {"connect in C"}
    assert done == allowed
    assert results["take memory"] == "MemoryError"
    assert results["core"] == [0, 0]
    assert results["umask"] == 0o077
    assert (tmp_path / "outside" / "kept").read_text() == "kept"


def test_without_any_fence_the_same_acts_succeed(tmp_path: Path, port: int) -> None:
    results = tried("none", tmp_path, port)
    assert {"held", "core", "umask", "take memory"} == {act for act, outcome in results.items() if outcome != "done"}


def test_the_audit_hook_alone_refuses_what_python_code_tries(tmp_path: Path, port: int) -> None:
    results = tried("audit", tmp_path, port)
    refused = {act for act, outcome in results.items() if outcome == "PermissionError"}
    assert refused == {
        *("connect", "look up", "read outside", "write outside", "climb out", "remove outside", "move outside"),
        *("run", "signal"),
    }


def test_landlock_alone_refuses_also_what_c_code_tries(tmp_path: Path, port: int) -> None:
    results = tried("landlock", tmp_path, port)
    if "landlock" not in results["held"]:
        pytest.skip("this kernel has no Landlock")
    refused = {act for act, outcome in results.items() if outcome not in ("done", "MemoryError")}
    files = {"write outside", "write outside in C", "climb out", "remove outside", "move outside", "run", "run in C"}
    assert files | {"read outside", "read outside in C"} <= refused - {"held", "core", "umask"}


def test_the_filter_of_calls_alone_refuses_every_socket_and_program(tmp_path: Path, port: int) -> None:
    results = tried("calls", tmp_path, port)
    if "calls" not in results["held"]:
        pytest.skip("this machine's system calls are not known")
    refused = {act for act, outcome in results.items() if outcome == "PermissionError"}
    assert refused == {"connect", "connect in C", "connect to a file in C", "run", "run in C"}


def test_a_process_that_has_threads_already_is_told_so() -> None:
    """Landlock and the filter would hold one thread only, and a user namespace cannot be made at all."""
    code = (
        "import threading, time\nfrom pathlib import Path\nfrom models.confinement import confine, GIB\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "confine(Path('.'), memory_bytes=4 * GIB, cpu_s=60, file_bytes=GIB)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "expected to be confined before a thread starts; 2 threads run" in done.stderr


@pytest.mark.parametrize("module", ["models.sandbox", "worker.thumbnails.child"])
def test_a_confined_child_starts_no_thread_before_its_fences_stand(module: str) -> None:
    code = f"import os, {module}; print(len(os.listdir('/proc/self/task')))"
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc")
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_a_namespace_alone_has_no_network_not_even_to_this_host(tmp_path: Path, port: int) -> None:
    results = tried("namespace", tmp_path, port)
    if "namespace" not in results["held"]:
        pytest.skip("network namespaces cannot be made here")
    assert results["connect"] != "done"
    assert results["connect in C"] != "done"


def test_a_process_without_privileges_is_confined_as_well(port: int) -> None:
    if os.getuid() != 0:
        pytest.skip("this user has no privileges to begin with: the other tests show it")
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        Path(place).chmod(0o777)
        before = os.umask(0)
        try:
            results = tried("all", Path(place), port, ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))
        finally:
            os.umask(before)
    assert results["connect"] != "done"
    assert results["write outside"] != "done"
    assert results["write inside"] == "done"


def test_a_limit_that_is_already_lower_is_kept(tmp_path: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom models.confinement import confine, GIB\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"confine(Path({str(tmp_path)!r}), memory_bytes=4 * GIB, cpu_s=60, file_bytes=GIB)\n"
        "print(resource.getrlimit(resource.RLIMIT_FSIZE))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "(1000, 1000)\n"
