from pathlib import Path

import pytest

from models.errors import InvalidModel
from models.imagenet import tell_apart
from models.labels import check_count, load_labels, read_labels, save_labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "cat\ndog\nowl\n"),
        ("l.txt", "cat\r\ndog\r\nowl"),
        ("l.TXT", "\ufeffcat\n dog \nowl\n\n"),
        ("l.json", '["cat", "dog", "owl"]'),
        ("l.json", '{"1": "dog", "0": "cat", "2": "owl"}'),
        ("l.json", '{"dog": 1, "cat": 0, "owl": 2}'),
        ("l.csv", "index,name\n1,dog\n0,cat\n2,owl\n"),
        ("l.csv", "0,cat\n1,dog\n2,owl\n"),
    ],
)
def test_every_form_of_label_file_gives_the_names_in_output_order(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    assert read_labels(file) == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("l.txt", "cat\ndog\ncat\n", r"'cat' is there twice \(classes 0 and 2\)"),
        ("l.txt", "cat\n\nowl\n", "class 1 needs a name"),
        ("l.txt", "", "no class names"),
        ("l.txt", "cat\n\x1b[31mred\n", "class 1 needs a name of printable text"),
        ("l.json", '["cat", 3]', "class 1 needs a name"),
        ("l.json", '{"0": "cat", "2": "owl"}', "1 is missing"),
        ("l.json", '{"zero": "cat"}', "whole number"),
        ("l.json", '{"cat": 0, "dog": 0}', "index 0 is there twice"),
        ("l.json", '{"²": "cat"}', "whole number"),
        ("l.json", "[" * 100_000, "not JSON"),
        ("l.json", "3", "got int"),
        ("l.csv", "0,cat\n1\n", "index and name"),
        ("l.csv", "0,cat\n0,dog\n", "there twice"),
        ("l.xml", "<a/>", r"\.txt, \.json, \.csv"),
    ],
)
def test_a_faulty_label_file_is_refused_with_the_class_at_fault(
    tmp_path: Path, name: str, text: str, complaint: str
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidModel, match=complaint):
        read_labels(file)


def test_a_label_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot read"):
        read_labels(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("Vögel\n".encode("latin-1"))
    with pytest.raises(InvalidModel, match="UTF-8"):
        read_labels(tmp_path / "latin.txt")


def test_the_wrong_number_of_names_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidModel, match=r"3 classes, the file names 2 \(cat, dog\)"):
        check_count(("cat", "dog"), 3, "l.txt")
    check_count(("cat", "dog"), 2, "l.txt")


def test_saved_labels_come_back_the_same(tmp_path: Path) -> None:
    labels = ("Vögel", "cat, domestic", "日本")
    save_labels(labels, tmp_path / "labels.json")
    assert load_labels(tmp_path / "labels.json") == labels


def test_imagenets_two_cranes_are_told_apart_and_other_twins_are_not() -> None:
    names = [f"class {index}" for index in range(1000)]
    names[134] = names[517] = "crane"
    names[638], names[639] = "maillot", "maillot, tank suit"
    apart = tell_apart(names)
    assert (apart[134], apart[517]) == ("crane (bird)", "crane (machine)")
    assert apart[638:640] == ["maillot", "maillot, tank suit"]
    assert len(set(apart)) == 1000
    assert tell_apart(["crane", "crane"]) == ["crane", "crane"]


def test_the_real_imagenet_label_file_is_accepted(shared_data: Path) -> None:
    labels = read_labels(shared_data / "imagenet_labels.txt")
    assert len(set(labels)) == 1000
    assert labels[134] == "crane (bird)"
