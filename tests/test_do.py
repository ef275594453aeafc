"""`./do`, the task verbs: with stand-ins for Python and the registry, so that what goes wrong can be made to."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "cat", "cmp", "cp", "dirname", "find", "ln", "mkdir", "mv", "readlink", "rm", "sed", "sleep")
# A Python that makes an environment like itself and whose `-m pip` and `-m uv` note what they were asked for.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
-c*) echo "${FAKE_VERSION:-3.12}" ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && ln -s python "$3/bin/pixmill" ;;
*" config get "*) exit 1 ;;
"-m uv "*) echo "$*" >>"$NOTES"; exit "${FAKE_UV:-0}" ;;
"-m pip "*) echo "$*" >>"$NOTES"; [ -z "${FAKE_SLOW:-}" ] || { echo "at work" >&2; sleep 60; }; exit "${FAKE_PIP:-0}" ;;
*) echo "ran $*" ;;
esac
"""


class Checkout:
    """A copy of what `./do` reads, with fake interpreters as the only ones on the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a checkout"
        self.programs = folder / "programs"
        self.notes = folder / "notes"
        self.folder.mkdir()
        self.programs.mkdir()
        shutil.copy(ROOT / "do", self.folder)
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        shutil.copytree(ROOT / "requirements", self.folder / "requirements")
        for name in TOOLS:
            found = shutil.which(name)
            assert found, name
            (self.programs / name).symlink_to(found)
        self.add_python("python3")

    def add_python(self, name: str) -> None:
        (self.programs / name).write_text(FAKE_PYTHON, encoding="utf-8")
        (self.programs / name).chmod(0o755)

    @property
    def installed(self) -> list[str]:
        """The installations that were asked for since the last look, by tool and what."""
        lines = self.notes.read_text(encoding="utf-8").splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        found = (re.search(r"-m (uv|pip) .*(?:/(\w+)\.lock|-e )", line) for line in lines)
        return [f"{hit[1]} {hit[2] or 'pixmill'}" for hit in found if hit]

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.folder / "do"), *words],
            env={"PATH": str(self.programs), "NOTES": str(self.notes), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def do(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **environment)
        out, error = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, error)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_call_installs_from_hashed_locks_and_the_second_installs_nothing(checkout: Checkout) -> None:
    first = checkout.do("demo", "--quick")
    assert (first.returncode, first.stdout) == (0, "ran demo --quick\n"), first.stderr
    assert len(first.stderr.splitlines()) == 2, first.stderr
    notes = checkout.notes.read_text(encoding="utf-8").splitlines()
    assert all("--require-hashes" in line or "--no-deps" in line for line in notes)
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill"]
    second = checkout.do("demo")
    assert (second.returncode, second.stdout, second.stderr) == (0, "ran demo\n", "")
    assert checkout.installed == []


def test_development_adds_to_what_the_demo_installed_and_serves_it_from_then_on(checkout: Checkout) -> None:
    checkout.do("demo")
    assert checkout.do("test", "-k", "x").stdout == "ran -m pytest -n 4 --dist loadfile --no-loadscope-reorder -k x\n"
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill", "pip build", "uv dev", "uv pixmill"]
    assert checkout.do("demo").stdout == "ran demo\n"
    assert checkout.installed == []


@pytest.mark.parametrize("file", ["requirements/cpu.lock", "requirements/build.lock", "pyproject.toml"])
def test_a_new_lock_is_installed(checkout: Checkout, file: str) -> None:
    checkout.do("setup")
    assert checkout.installed
    with (checkout.folder / file).open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    checkout.do("setup")
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill"]


def test_a_checkout_that_moved_is_set_up_again(checkout: Checkout) -> None:
    checkout.do("setup")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    (checkout.folder / ".venv" / "left-over").touch()
    assert checkout.installed
    checkout.do("setup")
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill"]
    assert not (checkout.folder / ".venv" / "left-over").exists()


def test_pip_takes_over_where_uv_cannot_install(checkout: Checkout) -> None:
    done = checkout.do("setup", FAKE_UV="2")
    assert done.returncode == 0
    assert "trying pip" in done.stderr
    assert checkout.installed == ["pip build", "uv cpu", "pip cpu", "uv pixmill", "pip pixmill"]


def test_a_failed_installation_is_a_failure_and_is_tried_again(checkout: Checkout) -> None:
    failed = checkout.do("demo", FAKE_UV="2", FAKE_PIP="1")
    assert failed.returncode != 0
    assert failed.stdout == ""
    assert checkout.installed
    assert checkout.do("demo").stdout == "ran demo\n"
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill"]


def test_an_interrupted_installation_starts_from_nothing(checkout: Checkout) -> None:
    process = checkout.start("setup", FAKE_SLOW="1")
    assert process.stderr is not None
    while "at work" not in process.stderr.readline():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (checkout.folder / ".venv" / "half").touch()
    assert (checkout.folder / ".venv" / ".do-lock").is_symlink()  # left by the killed one, and taken over:
    assert checkout.installed
    assert checkout.do("setup").returncode == 0
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill"]
    assert not (checkout.folder / ".venv" / "half").exists()


def test_two_at_once_install_once(checkout: Checkout) -> None:
    both = [checkout.start("setup"), checkout.start("setup")]
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert checkout.installed == ["pip build", "uv cpu", "uv pixmill"]


def test_an_environment_of_somebody_elses_is_added_to_but_never_emptied(checkout: Checkout) -> None:
    subprocess.run([checkout.programs / "python3", "-m", "venv", checkout.folder / ".venv"], check=True)
    (checkout.folder / ".venv" / "theirs").touch()
    assert checkout.do("setup").returncode == 0
    assert (checkout.folder / ".venv" / "theirs").exists()


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.14"])
def test_a_python_that_cannot_carry_the_locks_is_refused_with_what_to_do(checkout: Checkout, version: str) -> None:
    done = checkout.do("demo", FAKE_VERSION=version)
    assert done.returncode != 0
    assert f"python3 is {version}" in done.stderr
    assert "Python 3.11, 3.12 or 3.13" in done.stderr
    assert "PIXMILL_PYTHON=" in done.stderr


def test_a_command_named_python_that_does_not_run_is_passed_over(checkout: Checkout) -> None:
    (checkout.programs / "python3").write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    assert "None was found" in checkout.do("demo").stderr
    checkout.add_python("python3.13")
    assert checkout.do("demo").returncode == 0


def test_the_help_names_every_verb(checkout: Checkout) -> None:
    script = (ROOT / "do").read_text(encoding="utf-8")
    labels = re.findall(r"^([a-z][a-z |-]*)\)", script.split("\ncase $verb in\n")[1], flags=re.MULTILINE)
    verbs = {word for label in labels for word in label.split(" | ") if not word.startswith("-")}
    shown = checkout.do("help").stdout
    assert set(re.findall(r"^\./do (\w+)", shown, flags=re.MULTILINE)) == verbs
    assert {"demo", "test", "check", "help"} <= verbs
    assert checkout.do().stdout == shown
    assert checkout.installed == []


def test_an_unknown_verb_is_a_usage_error(checkout: Checkout) -> None:
    done = checkout.do("dance")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no verb 'dance'." in done.stderr


def test_the_script_is_plain_sh() -> None:
    assert (ROOT / "do").read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    for shell in filter(shutil.which, ("dash", "bash", "busybox")):
        words = [shell, "sh"] if shell == "busybox" else [shell]
        assert subprocess.run([*words, "-n", ROOT / "do"], check=False).returncode == 0


def test_the_verbs_run_the_python_of_the_environment(checkout: Checkout) -> None:
    assert checkout.do("bench", "--rounds", "3").stdout == "ran -m bench --rounds 3\n"
    assert checkout.do("chaos", "--faults", "3").stdout == "ran -m tests.chaos --faults 3\n"
    assert checkout.do("pixmill", "jobs", "list").stdout == "ran jobs list\n"
