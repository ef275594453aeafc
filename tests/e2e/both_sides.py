"""Two homes alike, one of them served: what `test_same_answer.py` asks on this machine and over a server."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.tree import run
from models.registry import Registry
from store import jobs
from store.database import Database
from store.run_rows import Finding
from store.tables import shards
from tests.cli.histories import History, accept_run, finished_run
from tests.databases import ready
from tests.running import Home, eventually, fake_model, write_images
from tests.serving import Served, serving
from worker.sources.opening import open_source
from worker.submission import Choices, Scan, submit_classify

HALF_RIGHT = History(answers=("robin", "wren", "wren", "wren"), findings=[Finding("duplicate", 1, 0, 0.0)])
ANOTHER = History(version=2, learning_rate=3e-3, losses=(0.8, 0.7, 0.3), answers=("robin", "robin", "robin", "wren"))

Said = tuple[int, str, str]  # exit code, stdout, stderr


@dataclass(frozen=True, slots=True)
class Place:
    """A served home with a job over labelled pictures; or, for what changes things, its twin without a server."""

    served: Served
    twin: Home
    photos: Path
    names: Mapping[str, object]  # what commands call by a name in braces: the pictures, and jobs


def write_photos(folder: Path) -> None:
    """Labelled pictures, one that cannot be read, and a file that is none."""
    for number, label in enumerate(("ant", "bee", "cat")):
        write_images(folder / label, 12, start=100 * number)
    (folder / "ant" / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("hello")


@contextmanager
def two_homes(base: Path) -> Iterator[Place]:
    """Both homes, with the same rows, one of them behind a server with a worker for classify jobs."""
    photos = base / "photos"
    write_photos(photos)
    home, twin = Home(base / "home", {"PIXMILL_ENGINE": "fake"}), Home(base / "twin", {"PIXMILL_ENGINE": "fake"})
    seeded = [_fill(one, photos) for one in (home, twin)]
    assert seeded[0] == seeded[1]
    with serving(home, [base], workers=1) as served:
        words = ("classify", photos, "--model", "fake", "--labels", "folder")
        job = home.run(*words, "--detach", env=served.env(), cwd=base).stdout.strip()
        eventually(lambda: served.client.get(f"{served.api}/jobs/{job}").json()["finished_at"] is not None, 60)
        twin.run(*words, code=6)
        yield Place(served, twin, photos, {"photos": photos, "job": job, **seeded[0]})
    eventually(lambda: not home.processes(), 20, "the end of every process of this home")


def _fill(home: Home, photos: Path) -> dict[str, int]:
    """Stand-in models, the rows of two trainings, and jobs that were put aside; those by name.

    Of `aside` and `training` no worker here serves the queue: they stand as a person left them.
    """
    home.path.mkdir(parents=True)
    fake_model(home.path)
    fake_model(home.path, "spare", ("x", "y"))
    database = Database(ready(f"sqlite:///{home.path}/pixmill.db"))
    finished_run(database, HALF_RIGHT)
    finished_run(database, ANOTHER)
    version = Registry(home.path / "models").get("fake")
    made = {
        name: submit_classify(database, Scan(open_source([str(photos / "bee")])), version, Choices())
        for name in ("parked", "aside")
    }
    made["training"] = accept_run(database, History(name="ducks"))
    for job in made.values():
        jobs.pause(database, job)
    with database.write() as connection:
        connection.execute(shards.update().where(shards.c.job_id == made["aside"]).values(queue="elsewhere"))
    database.close()
    return made


class Asker:
    """Runs commands inside this process: as the machine of a home, or over its server."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self._monkeypatch, self._capsys = place, monkeypatch, capsys

    def ask(self, *words: str, env: Mapping[str, str], stdin: bytes = b"") -> Said:
        """The exit code, stdout and stderr of a command."""
        with self._monkeypatch.context() as patch:
            for name in ("PIXMILL_SERVER", "PIXMILL_TOKEN"):
                patch.delenv(name, raising=False)
            for name, value in env.items():
                patch.setenv(name, value)
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            code = run([_filled(word, self.place.names) for word in words])
        out, err = self._capsys.readouterr()
        assert out or err
        return code, out, err

    def ask_one_home(self, *words: str) -> list[Said]:
        """What the served home says as its own machine, and over its server."""
        served = self.place.served
        return [self.ask(*words, env=env) for env in (served.home.env(), served.env())]

    def sides(self) -> dict[str, Mapping[str, str]]:
        """The environments of the two homes, by name."""
        return {"here": self.place.twin.env(), "there": self.place.served.env()}

    def plain(self, said: Said, folder: Path) -> Said:
        """What was said, without what belongs to one home: its place, its numbers of jobs, its times."""
        code, out, err = said
        for path, name in ((folder, "HERE"), (self.place.served.home.path, "HOME"), (self.place.twin.path, "HOME")):
            out, err = out.replace(str(path), name), err.replace(str(path), name)
        return code, _timeless(out), _timeless(_placeless(err))


def _filled(word: str, names: Mapping[str, object]) -> str:
    """A word of a command with its names in braces filled in; a JSON text with braces of its own stays."""
    return re.sub(r"{(\w+)}", lambda found: str(names[found[1]]), word)


def _timeless(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    text = re.sub(r"in [\d:]+, [\d,]+ img/s", "in TIME, SPEED img/s", text)
    text = re.sub(r"pxm_\w{8}_[\w-]{43}|(?<=\"prefix\": \")\w{8}|\b[0-9a-f]{32}\b", "RANDOM", text)
    text = re.sub(r'"(job_id|id|run)": \d+', r'"\1": 0', text)
    return re.sub(r"\b((?:[Jj]ob|[Rr]un|jobs \w+|results|sort) )\d+", r"\g<1>0", text)


def _placeless(text: str) -> str:
    """Messages without where, and without what is told of workers: a server has its own."""
    text = text.replace("A running `pixmill worker` takes it; without one, following it works on it.\n", "")
    return re.sub(r"(?:Database|Server): \S+$", "WHERE", text, flags=re.MULTILINE)


def same_place(said: Said) -> Said:
    """An answer without where it came from."""
    return said[0], said[1], _placeless(said[2])


def plain_names(names: set[str]) -> str:
    """The names of files that commands wrote, without what TensorBoard puts into its own."""
    return str(sorted(re.sub(r"-[0-9a-f]{8}\b|tfevents\.[\d.]+", "", name) for name in names))
