"""requirements/*.lock: pinned, hashed, thin where thin is promised, and in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = {  # the lock, then the extras and dependency groups that it was made from
    "api": ((), ()),
    "build": (None, ("build",)),
    "cpu": (("cpu",), ()),
    "dev": (("cpu",), ("dev",)),
    "gpu": (("gpu",), ()),
}
TOO_HEAVY_FOR_THE_API = re.compile(r"keras|tensorflow|openvino|torch|jax|scipy|scikit|opencv|h5py|matplotlib|nvidia")

Pins = dict[str, list[Requirement]]  # a package has two pins where markers choose


def read_lock(text: str) -> Pins:
    """The pins of a lock. Raises ValueError for a line that is not pinned, not hashed, or not a requirement at all."""
    pins: Pins = {}
    lines = re.sub(r"\\\n", " ", text).splitlines()
    for line in lines:
        if not line or line.startswith("#"):
            continue
        wanted, *hashes = re.split(r"\s+--hash=", line.strip())
        if not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", hash_) for hash_ in hashes):
            raise ValueError(f"no hash: {line[:80]}")
        requirement = Requirement(wanted)
        if requirement.url or not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
            raise ValueError(f"not pinned: {line[:80]}")
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def lock_text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")


def requirements_of(extras: tuple[str, ...] | None, groups: tuple[str, ...]) -> list[Requirement]:
    """What pyproject.toml asks for; our own extras and included groups unfolded."""
    optional = PROJECT["project"]["optional-dependencies"]
    lines: list[Any] = [] if extras is None else list(PROJECT["project"]["dependencies"])
    for extra in extras or ():
        lines += optional[extra]
    for group in groups:
        lines += PROJECT["dependency-groups"][group]
    found = []
    while lines:
        line = lines.pop()
        if isinstance(line, dict):
            lines += PROJECT["dependency-groups"][line["include-group"]]
            continue
        requirement = Requirement(line)
        if requirement.name == PROJECT["project"]["name"]:
            for extra in requirement.extras:
                lines += optional[extra]
        else:
            found.append(requirement)
    return found


def out_of_step(pins: Pins, wanted: list[Requirement]) -> list[str]:
    """What pyproject.toml wants and the lock does not give."""
    complaints = []
    for requirement in wanted:
        given = pins.get(canonicalize_name(requirement.name), [])
        versions = [str(pin.specifier).removeprefix("==") for pin in given]
        if not versions or not all(requirement.specifier.contains(version) for version in versions):
            complaints.append(f"{requirement} is locked as {versions or 'nothing'}")
    return complaints


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_pinned_and_hashed(name: str) -> None:
    assert read_lock(lock_text(name))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_registry_and_no_path_of_a_machine(name: str) -> None:
    assert not re.findall(r"://|--index|--find-links|^-|^/|file:|pixmill", lock_text(name), flags=re.MULTILINE)
    assert "./do lock" in lock_text(name).splitlines()[1]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_in_step_with_the_project(name: str) -> None:
    assert not out_of_step(read_lock(lock_text(name)), requirements_of(*LOCKS[name]))


def test_every_extra_and_group_is_locked_somewhere() -> None:
    groups = {group for _, groups in LOCKS.values() for group in groups}
    assert groups == set(PROJECT["dependency-groups"])
    asked = {str(requirement) for lock in LOCKS.values() for requirement in requirements_of(*lock)}
    for extra in PROJECT["project"]["optional-dependencies"]:
        assert {str(requirement) for requirement in requirements_of((extra,), ())} <= asked


def test_the_api_carries_no_machine_learning() -> None:
    assert not [name for name in read_lock(lock_text("api")) if TOO_HEAVY_FOR_THE_API.search(name)]
    assert [name for name in read_lock(lock_text("cpu")) if TOO_HEAVY_FOR_THE_API.search(name)]


@pytest.mark.parametrize("part", ["api", "build", "cpu"])
def test_the_development_lock_holds_the_same_versions(part: str) -> None:
    whole = {str(pin) for pins in read_lock(lock_text("dev")).values() for pin in pins}
    some = {str(pin) for pins in read_lock(lock_text(part)).values() for pin in pins}
    assert some <= whole, some - whole


def test_a_graphics_card_changes_tensorflow_and_adds_its_libraries_only() -> None:
    cpu, gpu = read_lock(lock_text("cpu")), read_lock(lock_text("gpu"))
    shared = {name: (str(cpu[name]), str(gpu[name])) for name in cpu.keys() & gpu.keys() if name != "tensorflow"}
    assert not {name: pair for name, pair in shared.items() if pair[0] != pair[1]}
    assert all(name.startswith("nvidia") for name in gpu.keys() - cpu.keys())


GOOD = f"one==1.0 \\\n    --hash=sha256:{'0' * 64}\n"


@pytest.mark.parametrize("line", ["one==1.0\n", GOOD.replace("==", ">="), GOOD.replace("1.0", "1.*"), "--index x\n"])
def test_a_loose_line_is_refused(line: str) -> None:
    assert read_lock(GOOD)
    with pytest.raises(ValueError, match=r"no hash|not pinned|Expected"):
        read_lock(GOOD + line)


@pytest.mark.parametrize("wanted", ["one>=2", "two"])
def test_a_lock_that_lags_behind_is_seen(wanted: str) -> None:
    assert not out_of_step(read_lock(GOOD), [Requirement("one>=1,<2")])
    assert out_of_step(read_lock(GOOD), [Requirement(wanted)])
