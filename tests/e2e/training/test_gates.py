"""Data with faults: what is wrong is named before the first epoch, and pictures that leak stop the job."""

import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.running import Home
from tests.trainings import QUICK, write_classes, write_dataset


@pytest.mark.long
def test_leaked_pictures_stop_the_job_with_their_names_until_they_are_allowed(home: Home, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "leaky", train=12, test=6)
    shutil.copyfile(data / "train/apple/0003.png", data / "test/apple/copied.png")
    refused = home.run("finetune", data, "--name", "fruit", *QUICK, "--epochs", "1", code=1)
    assert "copied.png" in refused.stderr
    assert "0003.png" in refused.stderr
    assert "--allow-leaks" in refused.stderr
    assert home.sql("SELECT state FROM v_runs") == [{"state": "failed"}]
    (finding,) = home.sql("SELECT path, other_path, split, other_split FROM v_findings WHERE kind = 'leak'")
    assert (Path(finding["path"]).name, finding["split"], finding["other_split"]) == ("copied.png", "test", "train")
    assert home.sql("SELECT COUNT(*) AS n FROM epochs") == [{"n": 0}]

    home.run("finetune", data, "--name", "fruit", *QUICK, "--epochs", "1", "--allow-leaks")
    assert home.sql("SELECT state FROM v_runs ORDER BY run_id") == [{"state": "failed"}, {"state": "done"}]


def test_planted_faults_are_all_named_and_the_gate_holds(home: Home, shared_data: Path, tmp_path: Path) -> None:
    """Thirty unreadable files, twelve leaked copies (some encoded anew, some resized), a class of three pictures."""
    with tarfile.open(shared_data / "cats_dogs.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data = tmp_path / "cats_dogs"
    for number in range(10):
        (data / "train" / "cats" / f"empty{number}.jpg").touch()
        (data / "train" / "dogs" / f"text{number}.jpg").write_text("no picture at all")
        whole = sorted((data / "train" / "dogs").glob("*.jpg"))[0].read_bytes()
        (data / "train" / "dogs" / f"half{number}.jpg").write_bytes(whole[: len(whole) // 2])
    originals = [file for file in sorted((data / "train" / "cats").glob("*.jpg")) if file.stat().st_size][:12]
    for number, original in enumerate(originals):
        copy = data / "test" / "cats" / f"leaked{number}.jpg"
        with Image.open(original) as image:
            if number % 3 == 0:
                shutil.copyfile(original, copy)
            elif number % 3 == 1:
                image.save(copy, quality=70)
            else:
                image.resize((image.width // 2, image.height // 2)).save(copy, quality=90)
    write_classes(data / "train", 3, names=("foxes",))
    write_classes(data / "test", 1, names=("foxes",), start=50)

    quick = ("--name", "pets", "--preset", "cifar_cnn", "--epochs", "1")
    home.run("finetune", data, *quick, code=1)
    assert home.sql("SELECT COUNT(*) AS n FROM epochs") == [{"n": 0}]
    home.run("finetune", data, *quick, "--allow-leaks", code=6)
    for run, job in ((1, 1), (2, 2)):
        failed = home.sql(f"SELECT error_code, COUNT(*) AS n FROM v_failures WHERE job_id = {job} GROUP BY error_code")
        assert {row["error_code"]: row["n"] for row in failed} == {"empty": 10, "not_image": 10, "truncated": 10}
        found = home.sql(f"SELECT kind, path, other_path FROM v_findings WHERE run_id = {run}")
        leaked = {(Path(row["path"]).stem, Path(row["other_path"]).name) for row in found if row["kind"] == "leak"}
        assert leaked == {(f"leaked{number}", original.name) for number, original in enumerate(originals)}
    small = home.sql("SELECT detail FROM v_findings WHERE kind = 'small_class' AND run_id = 2")
    assert "foxes" in small[0]["detail"]
