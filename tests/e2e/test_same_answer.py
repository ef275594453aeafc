"""Every command gives the same answer over a server as on this machine: the same stdout, stderr and exit code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.e2e.both_sides import Asker, Place, plain_names, same_place, two_homes
from tests.models.keras_files import keras_file, plain_weights
from tests.running import write_images


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with two_homes(tmp_path_factory.mktemp("same")) as made:
        yield made


@pytest.fixture
def asker(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asker:
    monkeypatch.chdir(tmp_path)
    return Asker(place, monkeypatch, capsys)


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


@pytest.mark.parametrize("command", READS, ids=" ".join)
def test_a_question_has_one_answer(asker: Asker, command: tuple[str, ...]) -> None:
    here, there = asker.ask_one_home(*command)
    assert same_place(there) == same_place(here)


def test_the_workers_are_the_same(asker: Asker) -> None:
    """But for the time at which each was last seen: a beat may come between the two answers."""
    here, there = asker.ask_one_home("workers")
    assert (there[0], without_last_seen(there[1]), there[2]) == (here[0], without_last_seen(here[1]), here[2])


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
    (("classify", "{photos}", "--model", "fake", "--include", "*/*[05].png"),),
    (("classify", "{photos}", "--model", "fake", "--detach"), ("classify", "{photos}", "--out", "rows.txt")),
    (
        ("jobs", "resume", "{parked}", "--json"),
        ("jobs", "show", "{parked}"),
        ("results", "{parked}"),
        ("jobs", "resume", "{parked}"),
        ("jobs", "cancel", "{parked}"),
        ("jobs", "rm", "{parked}"),
    ),
    (
        ("jobs", "resume", "{aside}", "--detach"),
        ("jobs", "pause", "{aside}", "--json"),
        ("jobs", "pause", "{aside}"),
        ("jobs", "rm", "{aside}"),
        ("jobs", "resume", "{aside}", "--max-failures", "5", "--detach", "--json"),
        ("jobs", "pause", "{aside}"),
        ("jobs", "cancel", "{aside}"),
        ("jobs", "cancel", "{aside}", "--json"),
        ("jobs", "retry", "{aside}", "--detach", "--json"),
        ("jobs", "cancel", "{aside}", "--json"),
        ("jobs", "follow", "{aside}"),
    ),
    (
        ("jobs", "resume", "{training}", "--detach", "--json"),
        ("jobs", "show", "{training}"),
        ("jobs", "pause", "{training}"),
        ("runs", "show", "ducks"),
        ("jobs", "cancel", "{training}"),
        ("runs", "list"),
        ("runs", "show", "ducks", "--json"),
        ("jobs", "rm", "{training}"),
        ("runs", "show", "ducks"),
    ),
    (
        ("finetune", "{photos}", "--name", "geese", "--preset", "small", "--detach"),
        ("finetune", "{photos}", "--name", "geese", "--preset", "small_cnn", "--epochs", "2", "--detach", "--json"),
        ("jobs", "show", "{last}"),
        ("runs", "recipe", "geese"),
        ("jobs", "pause", "{last}"),
        ("jobs", "cancel", "{last}", "--json"),
        ("runs", "show", "geese"),
        ("finetune", "--continue", "geese", "--epochs", "+1"),
        ("finetune", "--continue", "finches", "--epochs", "+1", "--detach"),
    ),
    (
        ("finetune", "{photos}/ant", "--name", "geese", "--preset", "small_cnn"),
        ("finetune", "{photos}/none", "--name", "geese", "--preset", "small_cnn"),
        ("finetune", "{photos}", "--name", "geese", "--base", "nothing"),
        ("finetune", "{photos}", "--name", "geese", "--preset", "small_cnn", "--set", "batch=none"),
    ),
    (
        ("models", "import", "nothing.keras"),
        ("models", "import", "{photos}/ant/broken.jpg"),
        ("models", "import", "{photos}/notes.txt", "--name", "Bad Name"),
        ("models", "pull", "nothing"),
    ),
    (
        ("runs", "log", "1", "--tensorboard", "board", "--json"),
        ("runs", "log", "owls", "--tensorboard", "board"),
        ("runs", "log", "1"),
    ),
    (
        ("token", "create", "robot", "--scope", "read", "--expires", "90d", "--json"),
        ("token", "create", "robot two"),
        ("token", "create", "robot", "--scope", "all"),
        ("token", "revoke", "robot"),
        ("token", "revoke", "robot"),
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
    asker: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: tuple[tuple[str, ...], ...]
) -> None:
    told = {}
    for side, env in asker.sides().items():
        folder = tmp_path / side
        folder.mkdir()
        monkeypatch.chdir(folder)
        said, last = [], ""
        for command in commands:
            answer = asker.ask(*(word.replace("{last}", last) for word in command), env=env)
            found = re.search(r'"(?:job_)?id": (\d+)', answer[1])
            last = found[1] if found else last
            said.append(asker.plain(answer, folder))
        names = {str(path.relative_to(folder)) for path in folder.rglob("*") if "report" not in path.parts}
        told[side] = [*said, (0, "files", plain_names(names))]
    differing = [pair for pair in zip(told["here"], told["there"], strict=True) if pair[0] != pair[1]]
    assert not differing


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_an_export_over_a_server_is_the_same_file(asker: Asker, tmp_path: Path, ending: str) -> None:
    for name, env in (("here", asker.place.served.home.env()), ("there", asker.place.served.env())):
        said = asker.ask("results", "{job}", "--max-score", "0.9", "--out", f"{name}.{ending}", env=env)
        assert (said[0], said[1], said[2].replace(name, "NAME")) == (0, "", f"29 rows written to NAME.{ending}\n")
    assert (tmp_path / f"there.{ending}").read_bytes() == (tmp_path / f"here.{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"here.{ending}", f"there.{ending}"]


def test_pictures_are_sent_to_a_server_that_does_not_see_them(asker: Asker, tmp_path: Path) -> None:
    shutil.copytree(asker.place.photos, tmp_path / "mine")
    words = ("classify", str(tmp_path / "mine"), "--model", "fake", "--labels", "folder", "--upload", "--json")
    code, out, err = asker.ask(*words, env=asker.place.served.env())
    assert code == 6, err
    rows = {row["file_name"]: row for row in map(json.loads, out.splitlines())}
    assert len(rows) == 37
    assert rows["bee/000100.png"]["true_label"] == "bee"
    first = next(iter(rows.values()))["job_id"]
    shutil.rmtree(tmp_path / "mine")
    code, out, err = asker.ask("sort", str(first), "sorted", "--json", env=asker.place.served.env())
    assert (code, json.loads(out)["left_out"]) == (0, {}), err
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 36


def test_what_the_server_does_not_see_is_refused_with_the_roots(asker: Asker, tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", 1)
    words = ("classify", str(tmp_path / "elsewhere"), "--model", "fake")
    code, _, err = asker.ask(*words, env=asker.place.served.env())
    assert code == 5
    assert "root" in err


def test_doctor_asks_the_server(asker: Asker, tmp_path: Path) -> None:
    code, out, _ = asker.ask("doctor", "--json", env=asker.place.served.env())
    points = {point["point"]: point["ok"] for point in map(json.loads, out.splitlines())}
    assert code == 0
    assert points == {"server": True, "database": True, "broker": True, "worker": True, "token": True}


def test_an_evaluation_over_a_server_leaves_the_same_figures(asker: Asker, tmp_path: Path) -> None:
    kept = []
    for side, home, env in (
        ("here", asker.place.twin, asker.place.twin.env()),
        ("there", asker.place.served.home, asker.place.served.env()),
    ):
        words = ("evaluate", "{photos}", "--model", "fake", "--report", f"{side}-report", "--json")
        code, out, err = asker.ask(*words, env=env)
        assert code == 6, err
        columns = "images, accuracy, top5, macro_f1, ece, split, run_id"
        (row,) = home.sql(f"SELECT {columns} FROM evaluations WHERE job_id = {json.loads(out)['job_id']}")
        kept.append({name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()})
    assert kept[0] == kept[1]
    assert kept[0]["images"] == 36


def test_a_manifest_is_sent_with_what_it_names(asker: Asker, tmp_path: Path) -> None:
    """Once beside its pictures, once elsewhere; the rows are those that it makes on this machine."""
    shutil.copytree(asker.place.photos, tmp_path / "mine")
    for name, before in (("mine/labels.csv", ""), ("labels.csv", f"{tmp_path}/mine/")):
        lines = [f"{before}{label}/{n:06}.png,{label},{n}" for label, n in (("ant", 1), ("bee", 101), ("cat", 201))]
        manifest = tmp_path / name
        manifest.write_text("\n".join(["file_name,label,camera", *lines, f"{before}ant/gone.png,ant,9"]) + "\n")
        told = []
        for more, env in ((), asker.place.served.home.env()), (("--upload",), asker.place.served.env()):
            code, out, err = asker.ask("classify", str(manifest), "--model", "fake", "--json", *more, env=env)
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


def test_a_list_on_stdin_is_the_same_job(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(asker.place.photos)  # as `find . | pixmill classify -`
    words = ("classify", "-", "--model", "fake", "--json", "--exclude", "bee/*5.png")
    names = b"./bee/000103.png\nant/broken.jpg\nnotes.txt\n"
    names += b"cat/gone.png\nbee/000105.png\n"
    here, there = (asker.plain(asker.ask(*words, env=env, stdin=names), Path("/-")) for env in asker.sides().values())
    assert there == here
    codes = [None, "not_image", "not_image", "missing"]  # and bee/000105.png is none of them
    assert [json.loads(line)["error_code"] for line in here[1].splitlines()] == codes


@pytest.mark.slow
def test_a_model_is_imported_as_it_is_here(asker: Asker, tmp_path: Path) -> None:
    keras_file(tmp_path / "Two Birds.keras", weights=whole_weights)
    (tmp_path / "labels.txt").write_text("tit\nwren\n")
    words = ("models", "import", "Two Birds.keras", "--labels", "labels.txt", "--crop", "squash", "--json")
    here, there = (asker.plain(asker.ask(*words, env=env), tmp_path) for env in asker.sides().values())
    assert here[0] == 0, here
    told = [json.loads(said[1]) for said in (here, there)]
    for one in told:
        del one["digest"], one["created_at"]  # each compiles it for itself, now
    assert told[1] == told[0]
    progress = "starting Keras\n3-channel pictures of 8×8, 2 classes\ncompiling\n"  # where the work is done
    assert there[2] == here[2].replace(progress, "sending Two Birds.keras (0.0 MB)\n")


def whole_weights(file: h5py.File) -> None:
    """A kernel and a bias."""
    plain_weights(file)
    file["layers/dense/vars"].create_dataset("1", data=np.zeros(2, np.float32))


def test_the_tokens_are_the_same(asker: Asker) -> None:
    """But for when the one that asks was used last: that may be written between the two answers."""
    here, there = ([json.loads(said[1]), said[2]] for said in asker.ask_one_home("token", "list", "--json"))
    for token in (*here[0], *there[0]):
        token.pop("last_used_at")
    assert there == here
    assert here[0]
