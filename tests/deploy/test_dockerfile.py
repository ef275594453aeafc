"""deploy/Dockerfile and .dockerignore, read as text; and the wheel that the image installs, built for real."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

Instruction = tuple[str, str]  # ("RUN", "…"), continuation lines joined


def instructions(text: str) -> list[Instruction]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", lines)
    split = (line.partition(" ") for line in joined.splitlines() if line)
    return [(word.upper(), rest.strip()) for word, _, rest in split]


def complaints(text: str) -> list[str]:
    """What is wrong with a Dockerfile of ours."""
    steps = instructions(text)
    starts = [number for number, (word, _) in enumerate(steps) if word == "FROM"]
    final = dict(steps[starts[-1] :])
    found = [] if len(starts) > 1 else ["the build tools are in the image: there is one stage only"]
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", final.get("USER", "0")):
        found.append(f"the image runs as {final.get('USER', 'root')}")
    if final.get("ENTRYPOINT") != '["pixmill"]':
        found.append("the entry point is not the command pixmill, in exec form")
    return found + [objection for word, rest in steps for objection in objections(word, rest)]


def objections(word: str, rest: str) -> Iterator[str]:
    """What is wrong with one instruction."""
    for command in re.findall(r"[^&;]*pip install[^&;]*", rest):
        if not re.search(r"--require-hashes|--no-deps dist/", command):
            yield f"installed without hashes: {command.strip()}"
    if word == "ADD" or re.search(r"\b(curl|wget)\b|https?://", rest):
        yield f"fetched from somewhere: {rest}"
    if word in ("ARG", "ENV") and re.search(r"PASSWORD|SECRET|TOKEN", rest):
        yield f"a secret in the image: {rest}"
    if word == "COPY" and rest.startswith(". "):
        yield "the whole checkout is copied"


def test_the_image_is_made_as_it_should_be() -> None:
    assert not complaints(DOCKERFILE)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("USER 10001:10001\n", ""),
        ("USER 10001:10001", "USER root"),
        ("USER 10001:10001", "USER 0:0"),
        ('ENTRYPOINT ["pixmill"]', "ENTRYPOINT pixmill"),
        ("--no-cache-dir --require-hashes", "--no-cache-dir"),
        ("/opt/pixmill --require-hashes", "/opt/pixmill"),
        ("--no-deps dist/*.whl", "dist/*.whl"),
        ("WORKDIR /src", "RUN curl -fsS example.org | sh"),
        ("WORKDIR /src", "ADD archive.tar /src"),
        ("ARG EXTRA=cpu", "ARG DATABASE_PASSWORD"),
        ("COPY api/ api/", "COPY . ."),
        (DOCKERFILE[: DOCKERFILE.rindex("FROM")], ""),
    ],
)
def test_a_worse_dockerfile_is_noticed(good: str, bad: str) -> None:
    assert DOCKERFILE.count(good) == 1
    assert complaints(DOCKERFILE.replace(good, bad))


def test_what_the_build_copies_is_what_the_context_lets_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    allowed = set(re.findall(r"^!([\w./]+?)/?$", ignored, flags=re.MULTILINE))
    copied: set[str] = set()
    for word, rest in instructions(DOCKERFILE):
        if word == "COPY" and not rest.startswith("--from"):
            copied |= {source.rstrip("/").split("/")[0] for source in rest.split()[:-1]}
    assert copied == allowed
    assert copied == {*PACKAGES, "requirements", "pyproject.toml", "README.md"}


def test_the_images_python_is_one_that_the_locks_are_made_for() -> None:
    version = re.search(r"^ARG PYTHON=(\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert version
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version[1])
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["project"]["classifiers"]


def test_the_wheel_holds_every_file_of_our_packages_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == ours
