"""Every command gives the same answer over a server as on this machine: the same stdout and exit code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.tree import run
from store.database import Database
from store.run_rows import Finding
from tests.cli.histories import History, finished_run
from tests.databases import ready
from tests.running import Home, eventually, fake_model, write_images
from tests.serving import Served, serving

HALF_RIGHT = History(answers=("robin", "wren", "wren", "wren"), findings=[Finding("duplicate", 1, 0, 0.0)])
ANOTHER = History(version=2, learning_rate=3e-3, losses=(0.8, 0.7, 0.3), answers=("robin", "robin", "robin", "wren"))


def write_photos(folder: Path) -> None:
    """Labelled pictures, one that cannot be read, and a file that is none."""
    for number, label in enumerate(("ant", "bee", "cat")):
        write_images(folder / label, 12, start=100 * number)
    (folder / "ant" / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("hello")


def new_home(path: Path) -> Home:
    """A home with two stand-in models and the rows of two trainings."""
    home = Home(path, {"PIXMILL_ENGINE": "fake"})
    path.mkdir(parents=True)
    fake_model(path)
    fake_model(path, "spare", ("x", "y"))
    database = Database(ready(f"sqlite:///{path}/pixmill.db"))
    finished_run(database, HALF_RIGHT)
    finished_run(database, ANOTHER)
    database.close()
    return home


@dataclass(frozen=True, slots=True)
class Place:
    """A served home with a job over labelled pictures; or, for what changes things, its twin without a server."""

    served: Served
    twin: Home
    photos: Path
    job: str

    def ask(self, *arguments: str, env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
        """Run a command; its exit code and what it printed."""
        command = self.served.home.command(*(word.format(job=self.job, photos=self.photos) for word in arguments))
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=180, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    base = tmp_path_factory.mktemp("same")
    photos = base / "photos"
    write_photos(photos)
    home, twin = new_home(base / "home"), new_home(base / "twin")
    with serving(home, [base], workers=1) as served:
        done = subprocess.run(
            home.command("classify", photos, "--model", "fake", "--labels", "folder", "--detach"),
            env=served.env(), cwd=base, capture_output=True, text=True, check=False,
        )  # fmt: skip
        job = done.stdout.strip()
        assert job, done.stderr
        eventually(lambda: served.client.get(f"{served.api}/jobs/{job}").json()["finished_at"] is not None, 60)
        twin.run("classify", photos, "--model", "fake", "--labels", "folder", code=6)
        yield Place(served, twin, photos, job)
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")


# Asked twice of one and the same home: once as its own machine, once over its server.
READS = (
    ("jobs", "list"),
    ("jobs", "list", "--json", "--limit", "2"),
    ("jobs", "show", "{job}"),
    ("jobs", "show", "{job}", "--json"),
    ("jobs", "show", "1"),
    ("jobs", "show", "1", "--json"),
    ("jobs", "show", "99"),
    ("jobs", "follow", "{job}", "--json"),
    ("jobs", "follow", "1", "--json"),
    ("jobs", "pause", "{job}"),
    ("jobs", "resume", "99"),
    ("jobs", "cancel", "{job}", "--keep-best"),
    ("jobs", "retry", "1"),
    ("jobs", "retry", "{job}", "--code", "nonsense"),
    ("jobs", "resume", "{job}", "--max-failures", "lots"),
    ("classify", "{photos}", "--max-failures", "101%"),
    ("jobs", "rm", "99"),
    ("results", "{job}"),
    ("results", "{job}", "--json"),
    ("results", "{job}", "--format", "csv"),
    ("results", "{job}", "--format", "jsonl", "--label", "ant", "--min-score", "0.3"),
    ("results", "{job}", "--status", "failed", "--json"),
    ("results", "{job}", "--error-code", "not_image", "--json"),
    ("results", "{job}", "--wrong", "--max-score", "0.9", "--json"),
    ("results", "{job}", "--order", "least_sure"),
    ("results", "{job}", "--order", "most_wrong", "--label", "ant", "--json"),
    ("results", "{job}", "--order", "best"),
    ("results", "99", "--json"),
    ("results", "{job}", "--status", "good"),
    ("runs", "list"),
    ("runs", "list", "--json"),
    ("runs", "show", "finches"),
    ("runs", "show", "finches@1", "--json"),
    ("runs", "show", "owls"),
    ("runs", "compare", "1", "2"),
    ("runs", "compare", "1", "2", "--json"),
    ("runs", "compare", "1", "finches@1"),
    ("runs", "recipe", "2"),
    ("runs", "recipe", "2", "--json"),
    ("runs", "findings", "1", "--json"),
    ("runs", "report", "1"),
    ("models", "list"),
    ("models", "list", "--json"),
    ("models", "show", "fake"),
    ("models", "show", "fake@1", "--json"),
    ("models", "show", "nothing"),
    ("models", "presets"),
    ("models", "presets", "--json"),
    ("sql", "SELECT path, label, score FROM v_results ORDER BY path"),
    ("sql", "SELECT label, COUNT(*) AS n FROM v_results GROUP BY label", "--format", "csv"),
    ("sql", "SELECT 1 AS a, NULL AS b, 'c' AS c", "--json"),
    ("sql", "DELETE FROM jobs"),
    ("sql", "SELECT nothing"),
    ("evaluate", "--job", "{job}", "--report", "report"),
    ("evaluate", "--job", "{job}", "--report", "report", "--json"),
    ("evaluate", "--job", "99"),
    ("classify", "{photos}/missing"),
    ("classify", "{photos}", "--model", "nothing"),
    ("classify", "{photos}"),
    ("finetune", "{photos}", "--name", "Bad Name", "--base", "fake"),
    ("finetune", "--continue", "owls", "--epochs", "+1"),
)


class Asker:
    """Asks one and the same home twice, inside this process: as its own machine, then over its server."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._place, self._monkeypatch, self._capsys = place, monkeypatch, capsys

    def ask(self, *command: str) -> list[tuple[int, str, str]]:
        """The exit code, stdout and stderr of each."""
        return [self._ask(command, env) for env in (self._place.served.home.env(), self._place.served.env())]

    def _ask(self, command: tuple[str, ...], env: Mapping[str, str]) -> tuple[int, str, str]:
        for name in ("PIXMILL_SERVER", "PIXMILL_TOKEN"):
            self._monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            self._monkeypatch.setenv(name, value)
        code = run([word.format(job=self._place.job, photos=self._place.photos) for word in command])
        out, err = self._capsys.readouterr()
        assert out or err
        return code, out, err


@pytest.fixture
def asker(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asker:
    monkeypatch.chdir(tmp_path)
    return Asker(place, monkeypatch, capsys)


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_a_question_has_one_answer(asker: Asker, command: tuple[str, ...]) -> None:
    (code, out, err), there = asker.ask(*command)
    assert there[:2] == (code, out), [err, there[2]]


def test_the_workers_are_the_same(asker: Asker) -> None:
    """But for the time at which each was last seen: a beat may come between the two answers."""
    (code, out, err), there = asker.ask("workers")
    assert (there[0], without_last_seen(there[1])) == (code, without_last_seen(out)), [err, there[2]]


def without_last_seen(table: str) -> list[str]:
    """The lines of a table of workers, each without its last column, a time."""
    rows = table.splitlines()
    assert rows[0].split()[-2:] == ["last", "seen"], table
    assert len(rows) > 1, table
    return [rows[0], *(re.sub(r"\s+\d{4}-\d\d-\d\dT[\d:.]+Z\s*$", "", row) for row in rows[1:])]


# What changes things is done in two homes alike, one of them served; numbers and times are each home's own.
WRITES = (
    (("classify", "{photos}", "--model", "fake", "--labels", "folder", "--json", "--no-reuse"),),
    (("classify", "{photos}/ant/000000.png", "{photos}/bee", "--model", "fake@1", "--json", "--top-k", "2"),),
    (("classify", "{photos}", "--include", "cat/*", "--model", "fake", "--json", "--exclude", "*7.png"),),
    (("classify", "{photos}", "--model", "fake", "--detach", "--json"), ("jobs", "follow", "{last}", "--json")),
    (
        ("classify", "{photos}", "--model", "fake", "--json"),
        ("jobs", "retry", "{last}", "--code", "not_image", "--json"),
        ("jobs", "retry", "{last}", "--code", "truncated"),
        ("jobs", "rm", "{last}", "--json"),
        ("jobs", "show", "{last}"),
    ),
    (
        ("classify", "{photos}", "--model", "fake", "--max-failures", "50%", "--detach", "--json"),
        ("jobs", "follow", "{last}", "--json"),
        ("jobs", "retry", "{last}", "--max-failures", "7", "--json"),
    ),
    (("evaluate", "{photos}", "--model", "fake", "--report", "report", "--json"),),
    (("sort", "{job}", "sorted", "--json"), ("sort", "{job}", "sorted", "--json", "--min-score", "0.5")),
    (("sort", "{job}", "linked", "--link", "--json"),),
    (
        ("models", "alias", "fake@1", "production", "--json"),
        ("models", "list"),
        ("models", "show", "fake@production"),
        ("models", "rm", "fake@production"),
    ),
    (
        ("models", "export", "spare", "spare.zip", "--json"),
        ("models", "export", "spare", "spare.zip"),
        ("models", "export", "spare", "folder"),
        ("models", "rm", "spare", "--json"),
        ("models", "rm", "spare"),
    ),
)


@pytest.mark.parametrize("commands", WRITES, ids=lambda commands: " ".join(commands[0][:2]))
def test_a_change_is_the_same_on_both_sides(
    place: Place, tmp_path: Path, commands: tuple[tuple[str, ...], ...]
) -> None:
    told = []
    for side, env in (("here", place.twin.env()), ("there", place.served.env())):
        folder = tmp_path / side
        folder.mkdir()
        said, last = [], ""
        for command in commands:
            words = [word.replace("{last}", last) for word in command]
            code, out, err = place.ask(*words, env=env, cwd=folder)
            found = re.search(r'"(?:job_)?id": (\d+)', out)
            last = found[1] if found else last
            said.append((code, plain(out, place, folder), err if code in (1, 2, 4) else ""))
        told.append([entry[:2] for entry in said])
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if "report" not in path.parts}
        told[-1].append((0, str(sorted(files))))
    assert told[1] == told[0]


def plain(text: str, place: Place, folder: Path) -> str:
    """What was printed, without what belongs to one home: its place, its numbers of jobs, its times."""
    for path, name in ((folder, "HERE"), (place.served.home.path, "HOME"), (place.twin.path, "HOME")):
        text = text.replace(str(path), name)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return re.sub(r'"(job_id|id)": \d+', r'"\1": 0', text)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_export_over_a_server_is_the_same_file(place: Place, tmp_path: Path, ending: str) -> None:
    for name, env in (("here", place.served.home.env()), ("there", place.served.env())):
        words = ("results", "{job}", "--max-score", "0.9", "--out", f"{name}.{ending}")
        assert place.ask(*words, env=env, cwd=tmp_path)[:2] == (0, "")
    assert (tmp_path / f"there.{ending}").read_bytes() == (tmp_path / f"here.{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"here.{ending}", f"there.{ending}"]


def test_pictures_are_sent_to_a_server_that_does_not_see_them(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.photos, tmp_path / "mine")
    words = ("classify", str(tmp_path / "mine"), "--model", "fake", "--labels", "folder", "--upload", "--json")
    code, out, err = place.ask(*words, env=place.served.env(), cwd=tmp_path)
    assert code == 6, err
    rows = {row["file_name"]: row for row in map(json.loads, out.splitlines())}
    assert len(rows) == 37
    assert rows["bee/000100.png"]["true_label"] == "bee"
    first = next(iter(rows.values()))["job_id"]
    shutil.rmtree(tmp_path / "mine")
    code, out, err = place.ask("sort", str(first), "sorted", "--json", env=place.served.env(), cwd=tmp_path)
    assert (code, json.loads(out)["left_out"]) == (0, {}), err
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 36


def test_what_the_server_does_not_see_is_refused_with_the_roots(place: Place, tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", 1)
    words = ("classify", str(tmp_path / "elsewhere"), "--model", "fake")
    code, _, err = place.ask(*words, env=place.served.env(), cwd=tmp_path)
    assert code == 5
    assert "root" in err


def test_doctor_asks_the_server(place: Place, tmp_path: Path) -> None:
    code, out, _ = place.ask("doctor", "--json", env=place.served.env(), cwd=tmp_path)
    points = {point["point"]: point["ok"] for point in map(json.loads, out.splitlines())}
    assert code == 0
    assert points == {"server": True, "database": True, "broker": True, "worker": True, "token": True}


def test_an_evaluation_over_a_server_leaves_the_same_figures(place: Place, tmp_path: Path) -> None:
    kept = []
    for side, home, env in (("here", place.twin, place.twin.env()), ("there", place.served.home, place.served.env())):
        words = ("evaluate", "{photos}", "--model", "fake", "--report", f"{side}-report", "--json")
        code, out, err = place.ask(*words, env=env, cwd=tmp_path)
        assert code == 6, err
        columns = "images, accuracy, top5, macro_f1, ece, split, run_id"
        (row,) = home.sql(f"SELECT {columns} FROM evaluations WHERE job_id = {json.loads(out)['job_id']}")
        kept.append({name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()})
    assert kept[0] == kept[1]
    assert kept[0]["images"] == 36


def test_a_manifest_is_sent_with_what_it_names(place: Place, tmp_path: Path) -> None:
    """Once beside its pictures, once elsewhere; the rows are those that it makes on this machine."""
    shutil.copytree(place.photos, tmp_path / "mine")
    for name, before in (("mine/labels.csv", ""), ("labels.csv", f"{tmp_path}/mine/")):
        lines = [f"{before}{label}/{n:06}.png,{label},{n}" for label, n in (("ant", 1), ("bee", 101), ("cat", 201))]
        manifest = tmp_path / name
        manifest.write_text("\n".join(["file_name,label,camera", *lines, f"{before}ant/gone.png,ant,9"]) + "\n")
        told = []
        for more, env in ((), place.served.home.env()), (("--upload",), place.served.env()):
            code, out, err = place.ask(
                "classify", str(manifest), "--model", "fake", "--json", *more, env=env, cwd=tmp_path
            )
            assert code == 6, err
            told.append(
                [
                    (row["label"], row["true_label"], row["extra"], row["error_code"])
                    for row in map(json.loads, out.splitlines())
                ]
            )
        assert told[1] == told[0]
        assert [row[3] for row in told[0]] == [None, None, None, "missing"]
        assert "gone.png" in err
