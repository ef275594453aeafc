"""The README's transcript of `pixmill up` and curl, played again word for word and compared with the database."""

import csv
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.running import Home, write_images
from tests.serving import Served, serving

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


@dataclass(frozen=True)
class Step:
    """One command of a transcript, and the lines that the README shows of its output."""

    command: str
    shown: tuple[str, ...]


def transcript() -> list[Step]:
    """The commands of the README's block that asks with curl."""
    (block,) = (block for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "oauth2-bearer" in block)
    steps = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip().splitlines()
        steps.append(Step(command, tuple(shown)))
    return steps


def pattern(line: str) -> str:
    """A shown line as a regular expression: numbers vary, … stands for anything, spaces between JSON's parts too.

    A short job may be done before its first figures are told.
    """
    parts = re.split(r"(\d[\d.]*|…|(?<=\"state\":)\"running\"(?=,\"found\"))", _dense(line))
    varying = {"…": ".*", '"running"': '"(running|done)"'}
    return "".join(varying.get(part, r"\d[\d.]*" if part[:1].isdigit() else re.escape(part)) for part in parts)


def _dense(line: str) -> str:
    return re.sub(r"(?<=[:,\[{]) +", "", line)


def play(served: Served, folder: Path, label: str, where: Path) -> list[tuple[Step, str]]:
    """Run the commands in one shell, with this test's server, home, folder and label in place of the README's."""
    token = served.home.path / "token"
    swaps = {
        "http://127.0.0.1:8420": served.url,
        "~/.local/share/pixmill/token": str(token),
        "/home/you/Pictures/imagenet200": str(folder),
        "label=flamingo": f"label={label}",
    }
    steps = transcript()
    script = ["set -eu"]
    for number, step in enumerate(steps):
        command = step.command
        for old, new in swaps.items():
            command = command.replace(old, new)
        script += [command if command.startswith(("export", "ask()")) else f"{command} > out{number}"]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=where, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, (done.stdout, done.stderr, served.home.logs())
    outputs = [where / f"out{number}" for number in range(len(steps))]
    return [(step, out.read_text() if out.exists() else "") for step, out in zip(steps, outputs, strict=True)]


def assert_shown(step: Step, output: str) -> None:
    """Every shown line is there, in its order."""
    lines = iter(output.splitlines())
    for shown in step.shown:
        if shown.strip() != "…":
            wanted = re.compile(pattern(shown))
            assert any(wanted.match(_dense(line)) for line in lines), (step.command, shown, output[-3000:])


def rows(home: Home) -> list[dict[str, Any]]:
    return home.sql("SELECT file_name, status, label, score FROM v_results WHERE job_id = 1 ORDER BY idx")


def assert_equal_by_label(served: Served, label: str) -> None:
    """What is asked by label is what SQL knows by it."""
    answer = served.client.get("/api/v1/jobs/1/results", params={"label": label, "limit": 1000}).json()
    known = [row for row in rows(served.home) if row["label"] == label]
    shown = [{name: item[name] for name in ("file_name", "status", "label", "score")} for item in answer["items"]]
    assert shown == known
    assert known


def assert_equal_to_the_database(home: Home, where: Path, count: int) -> None:
    """Both downloads hold every row of the job, with the label and score that SQL knows."""
    known = {row["file_name"]: (row["label"], row["score"]) for row in rows(home)}
    assert len(known) == count
    table = pyarrow.parquet.read_table(where / "results.parquet").to_pylist()
    assert {row["file_name"]: (row["label"], row["score"]) for row in table} == known
    with (where / "results.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {line["file_name"]: line["label"] for line in lines} == {name: label for name, (label, _) in known.items()}
    scores = {line["file_name"]: float(line["score"]) for line in lines}
    assert scores == pytest.approx({name: score for name, (_, score) in known.items()})
    assert len(table) == len(lines) == count


@pytest.fixture
def where(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def test_the_transcript_with_a_stand_in_model(fake_home: Home, tmp_path: Path, where: Path) -> None:
    write_images(tmp_path / "photos", 60)
    with serving(fake_home, [tmp_path / "photos"], workers=1) as served:
        played = play(served, tmp_path / "photos", "bee", where)
        assert_equal_by_label(served, "bee")
    for step, output in played:
        if "label=" not in step.command:  # its pictures are named otherwise
            assert_shown(step, output)
    assert_equal_to_the_database(fake_home, where, 60)


@pytest.fixture(scope="module")
def imagenet(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(shared_data / "imagenet200.tar") as archive:
        archive.extractall(folder, filter="data")
    yield folder / "imagenet200"
    shutil.rmtree(folder)


def test_the_transcript_with_a_real_classifier_on_real_photographs(
    shared_data: Path, imagenet: Path, tmp_path: Path, where: Path
) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.run("models", "import", shared_data / "mobilenet_v2_imagenet.keras", "--name", "mobilenet_v2")
    with serving(home, [imagenet], workers=1, engine=None) as served:
        played = play(served, imagenet, "flamingo", where)
        assert_equal_by_label(served, "flamingo")
    for step, output in played:
        assert_shown(step, output)
    assert_equal_to_the_database(home, where, 200)
