from pathlib import Path

import pytest

from models.errors import InvalidModel
from models.references import check_alias, check_name, name_of_file, split_reference


@pytest.mark.parametrize("name", ["birds", "Birds", " birds ", "resnet50.v2", "a", "0", "x" * 64, "a-b_c.d"])
def test_a_plain_word_is_a_model_name_and_is_kept_in_lower_case(name: str) -> None:
    assert check_name(name) == name.strip().lower()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-birds", ".birds", "birds/1", "../up", "bi rds", "b@3", "x" * 65, "vögel", "birds."]
)
def test_what_could_leave_the_registry_or_read_as_a_version_is_no_model_name(name: str) -> None:
    with pytest.raises(InvalidModel, match="got"):
        check_name(name)


@pytest.mark.parametrize("alias", ["3", "latest", "Latest", "a b", ""])
def test_an_alias_cannot_read_like_a_version(alias: str) -> None:
    with pytest.raises(InvalidModel):
        check_alias(alias)


def test_a_reference_has_a_name_and_a_selector() -> None:
    assert split_reference("birds") == ("birds", "latest")
    assert split_reference("Birds@3") == ("birds", "3")
    assert split_reference("birds@Production") == ("birds", "production")
    with pytest.raises(InvalidModel, match="after the @"):
        split_reference("birds@")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mobilenet_v2_imagenet.keras", "mobilenet_v2"),
        ("My Birds (1).keras", "my_birds_1"),
        ("_imagenet.keras", "imagenet"),
        ("imagenet.keras", "imagenet"),
        ("BIRDS.v2.keras", "birds.v2"),
        ("x" * 90 + ".keras", "x" * 64),
    ],
)
def test_a_file_gives_its_model_a_name(file: str, name: str) -> None:
    assert name_of_file(Path("/somewhere") / file) == name


def test_a_file_name_without_a_usable_letter_asks_for_one() -> None:
    with pytest.raises(InvalidModel, match="--name"):
        name_of_file(Path("日本.keras"))
