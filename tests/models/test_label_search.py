import json
from pathlib import Path

import pytest

from models.errors import InvalidModel
from models.label_search import Candidate, choose_labels, find_labels

PETS = ("cat", "dog")
BIRDS = ("owl", "tit", "wren")


def write(path: Path, names: tuple[str, ...]) -> Path:
    path.write_text("\n".join(names) if path.suffix == ".txt" else json.dumps(names))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pets.keras").touch()
    return tmp_path / "pets.keras"


def test_labels_that_were_said_are_the_only_candidate(file: Path, tmp_path: Path) -> None:
    write(tmp_path / "labels.txt", BIRDS)
    said = write(tmp_path / "mine.json", PETS)
    assert find_labels(file, said, BIRDS) == [Candidate(str(said), PETS, said=True)]


@pytest.mark.parametrize(
    "name", ["pets_labels.txt", "pets_labels.json", "pets.labels.txt", "labels.txt", "labels.json", "my-labels-v2.txt"]
)
def test_a_file_of_labels_beside_the_model_is_found(file: Path, tmp_path: Path, name: str) -> None:
    write(tmp_path / name, PETS)
    assert choose_labels(find_labels(file, None), 2) == PETS


def test_the_nearest_name_wins_and_a_wrong_count_is_passed_over(file: Path, tmp_path: Path) -> None:
    write(tmp_path / "pets_labels.txt", PETS)
    write(tmp_path / "labels.txt", ("a", "b"))
    write(tmp_path / "other_labels.txt", BIRDS)
    assert choose_labels(find_labels(file, None), 2) == PETS
    assert choose_labels(find_labels(file, None), 3) == BIRDS


def test_two_lists_of_the_same_length_and_other_words_are_not_guessed_between(file: Path, tmp_path: Path) -> None:
    write(tmp_path / "a_labels.txt", PETS)
    write(tmp_path / "b_labels.txt", ("a", "b"))
    with pytest.raises(InvalidModel, match="no names"):
        choose_labels(find_labels(file, None), 2)
    write(tmp_path / "b_labels.txt", PETS)
    assert choose_labels(find_labels(file, None), 2) == PETS


def test_the_files_own_metadata_come_first(file: Path, tmp_path: Path) -> None:
    write(tmp_path / "labels.txt", ("a", "b"))
    assert choose_labels(find_labels(file, None, PETS), 2) == PETS


def test_a_broken_file_that_was_merely_found_is_passed_over_and_one_that_was_said_is_refused(
    file: Path, tmp_path: Path
) -> None:
    broken = write(tmp_path / "labels.txt", ("cat", "cat"))
    assert find_labels(file, None) == []
    with pytest.raises(InvalidModel, match="there twice"):
        find_labels(file, broken)


def test_a_wrong_count_is_refused_with_what_was_said(file: Path, tmp_path: Path) -> None:
    said = find_labels(file, write(tmp_path / "mine.txt", PETS))
    with pytest.raises(InvalidModel, match=r"mine\.txt: the model has 3 classes, the file names 2 \(cat, dog\)"):
        choose_labels(said, 3)


def test_a_model_without_labels_is_refused_with_what_was_seen_and_what_to_do(file: Path, tmp_path: Path) -> None:
    write(tmp_path / "labels.txt", PETS)
    with pytest.raises(InvalidModel, match=r"(?s)labels\.txt has 2.*--labels"):
        choose_labels(find_labels(file, None), 3)
    with pytest.raises(InvalidModel, match="--labels imagenet"):
        choose_labels([], 1000)


def test_imagenets_names_come_from_the_keras_cache(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with pytest.raises(InvalidModel, match="Pull any preset"):
        find_labels(file, Path("imagenet"))
    index = tmp_path / "keras" / "models" / "imagenet_class_index.json"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({str(number): [f"n{number:08}", f"thing_{number}"] for number in range(1000)}))
    assert choose_labels(find_labels(file, Path("imagenet")), 1000)[999] == "thing_999"
    index.write_text("{}")
    with pytest.raises(InvalidModel, match="1,000 entries"):
        find_labels(file, Path("imagenet"))


def test_a_candidate_survives_the_way_to_the_child(file: Path) -> None:
    candidate = Candidate("labels.txt", PETS, said=True)
    assert Candidate.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate
