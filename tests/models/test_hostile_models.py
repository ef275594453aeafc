"""Bar: every hostile model is refused with a reason, and nothing is read, written, connected to or started meanwhile.

All files go through the real `pixmill models import`. What it did is told by the kernel: by strace where that is
installed, and anywhere by a folder and a port that are watched.
"""

import json
import site
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.children import Child, bare_environment
from models.errors import InvalidModel
from tests.models.harmful import harm_in_a_process, lambda_model, read_notes
from tests.models.hostile_kinds import Canary
from tests.models.hostile_models import hostile_models
from tests.models.tracing import Act, acts_of, can_trace, traced
from tests.models.watching import Watch, watched
from tests.running import Home

REPOSITORY = Path(__file__).parents[2]
HOSTILE = hostile_models()
SANDBOX = "models.sandbox"
# What makes up a program, its libraries and the machine; nobody's data is there.
PROGRAM = (
    *map(str, {sys.prefix, sys.base_prefix, Path(sys.executable).parent, *site.getsitepackages()}),
    *("/usr/", "/lib", "/etc/ld.so", "/etc/localtime", "/etc/os-release", "/proc/", "/sys/", "/dev/"),
    *("/etc/ssl/openssl.cnf", "/etc/locale.alias"),  # which links below /usr lead to
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Outcome:
    """What one import came to."""

    code: int
    said: str


@dataclass(frozen=True)
class Imports:
    """All of them, and what was seen beside."""

    outcomes: Mapping[str, Outcome]
    touched: Sequence[str]
    left: Sequence[str]  # in the home, beside what an empty registry has
    outside: Sequence[Act]  # by the command line itself
    inside: Sequence[Act]  # by sandboxed processes
    folder: Path


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secret")
    (folder / "canary").write_text("a secret word\n" * 100)
    return folder


@pytest.fixture(scope="module")
def watch(secret: Path) -> Iterator[Watch]:
    with watched(secret) as watch:
        yield watch


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory, secret: Path, watch: Watch) -> Imports:
    """Every hostile file, imported by one process under strace."""
    place = tmp_path_factory.mktemp("hostile")
    canary = Canary(secret / "canary", watch.port)
    files = {}
    for number, (name, hostile) in enumerate(HOSTILE.items()):
        folder = place / f"{number:03}"
        folder.mkdir()
        files[name] = str(hostile.make(folder, canary))
    (place / "cases.json").write_text(json.dumps(files))
    home = Home(place / "home")
    (home.path / "tmp").mkdir(parents=True)
    (place / "trace").mkdir()
    words = [sys.executable, "-P", "-m", "tests.models.hostile_imports", str(place / "cases.json")]
    watch.touched()
    done = subprocess.run(
        [*(traced(place / "trace" / "t") if can_trace() else []), *words],
        env={**home.env(), "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(home.path / "tmp")},
        cwd=place, capture_output=True, text=True, timeout=220, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    outside, inside = acts_of(place / "trace" / "t", SANDBOX)
    return Imports(
        {row["name"]: Outcome(row["code"], row["said"]) for row in said},
        watch.touched(),
        [str(path.relative_to(home.path)) for path in (home.path / "models").rglob("*") if path.is_file()],
        outside,
        inside,
        place,
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_with_its_reason(imports: Imports, name: str) -> None:
    outcome = imports.outcomes[name]
    assert outcome.code == 2, outcome
    assert HOSTILE[name].word in outcome.said, outcome.said
    assert "Traceback" not in outcome.said
    assert "a bug in Pixmill" not in outcome.said


def test_the_canaries_were_not_looked_at_and_nobody_connected(imports: Imports) -> None:
    assert imports.touched == []


def test_no_hostile_model_leaves_a_file_in_the_registry(imports: Imports) -> None:
    assert [path for path in imports.left if not path.endswith(".lock")] == []


def test_the_watch_sees_a_look_and_a_connection(watch: Watch, imports: Imports) -> None:
    import socket

    (watch.folder / "canary").read_text()
    socket.create_connection(("127.0.0.1", watch.port)).close()
    found = " ".join(watch.touched())
    assert "canary" in found
    assert "a connection" in found


needs_strace = pytest.mark.skipif(not can_trace(), reason="strace is not installed, or may not watch here")


@needs_strace
def test_the_kernel_saw_no_file_read_outside_of_the_program_and_the_sandbox(imports: Imports) -> None:
    mine = (*PROGRAM, str(imports.folder / "home"), *_code())
    strange = {act.what for act in imports.inside if act.kind == "read" and not act.what.startswith(mine)}
    assert {path for path in strange if not Path(path).is_dir()} == set()
    opened = {act.what for act in imports.inside if act.kind == "read"}
    assert any(path.endswith("model.weights.h5") for path in opened), "nothing was traced"


@needs_strace
def test_the_kernel_saw_nothing_written_but_in_the_sandboxs_folder(imports: Imports) -> None:
    staging = str(imports.folder / "home" / "models" / ".staging")
    # The interpreter keeps what it compiled of our own modules, before the fences stand.
    written = {act.what for act in imports.inside if act.kind == "write" and "/__pycache__/" not in act.what}
    assert {path for path in written if not path.startswith((staging, "/dev/null", "/proc/self/"))} == set()
    home = (str(imports.folder / "home"), "/dev/null")
    by_parent = {act.what for act in imports.outside if act.kind == "write"}
    strange = {path for path in by_parent if not path.startswith(home) and "/__pycache__" not in path}
    assert strange == set()


@needs_strace
def test_the_kernel_saw_no_connection_and_no_program_but_the_sandbox(imports: Imports) -> None:
    acts = [*imports.inside, *imports.outside]
    assert [act.what for act in acts if act.kind == "connect"] == []
    programs = [act.what for act in acts if act.kind == "run"]
    assert sum(SANDBOX in what for what in programs) == sum(h.opened == "sandbox" for h in HOSTILE.values())
    assert [what for what in programs if SANDBOX not in what and "hostile_imports" not in what] == []


def _code() -> list[str]:
    """What a sandboxed process may import of ours; of the working tree only the list of names."""
    return [f"{REPOSITORY}/models", f"{REPOSITORY}/worker", f"{REPOSITORY}/store"]


# Defence in depth: the checks are broken, the fences hold.


@pytest.fixture
def canary_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "canary").write_text("a secret word")
    return folder


def test_with_all_checks_broken_the_code_runs_and_can_do_nothing(tmp_path: Path, canary_folder: Path) -> None:
    import socket

    inside = tmp_path / "inside"
    (inside / "home").mkdir(parents=True)
    notes = inside / "home" / "acts.json"
    with watched(canary_folder) as watch, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(canary_folder / "socket"))
        listening.listen()
        watch.touched()
        file = lambda_model(inside / "m.keras", canary_folder / "canary", watch.port, notes)
        found = _open_blindly(file, inside)
        touched = watch.touched()
    assert set(found.values()) <= {"PermissionError", "OSError", "ConnectionRefusedError"}, found
    assert touched == []
    assert (canary_folder / "canary").read_text() == "a secret word"


def _open_blindly(file: Path, folder: Path) -> dict[str, str]:
    """Through the sandbox with its checks off; the model's own outcome does not matter."""
    request = {
        "work": "prepare", "source": str(file), "folder": str(folder), "name": "m", "number": 1, "labels": [],
        "overrides": {}, "timeout_s": 120.0,
    }  # fmt: skip
    child = Child("tests.models.blind_sandbox", folder, bare_environment(folder / "home"), 120.0)
    with pytest.raises(InvalidModel) as refused:
        child.ask(request)
    notes = folder / "home" / "acts.json"
    assert notes.is_file(), f"the code did not run: {refused.value}"
    return read_notes(notes)


def test_without_the_fences_the_same_code_does_it_all(tmp_path: Path, canary_folder: Path) -> None:
    import socket

    with watched(canary_folder) as watch, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(canary_folder / "socket"))
        listening.listen()
        found: dict[str, Any] = dict(harm_in_a_process(canary_folder / "canary", watch.port, tmp_path / "acts.json"))
        touched = watch.touched()
    assert set(found.values()) == {"done"}, found
    assert len(touched) > 5
    assert not (canary_folder / "canary").exists()
