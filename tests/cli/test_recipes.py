"""From what was typed to a recipe."""

from pathlib import Path
from typing import Any

import pytest

from cli.errors import CommandError, Exit
from cli.recipes import Wishes, flat, further_recipe, new_recipe, reference
from models.errors import InvalidRecipe
from models.recipes import all_keys, make_recipe, write_recipe

HEAD = make_recipe("head", base="birds@1", preset=None)


def test_options_go_over_set_and_set_over_the_document(tmp_path: Path) -> None:
    document = tmp_path / "r.toml"
    document.write_text(
        'base = "birds@1"\nepochs = 3\nbatch_size = 8\n[optimizer]\nlearning_rate = 0.5\nmomentum = 0.1\n'
    )
    recipe = new_recipe(
        Wishes(
            document=document,
            epochs="9",
            settings=["optimizer.learning_rate=0.25", "epochs=4", "loss.label_smoothing=0.1"],
        )
    )
    assert (recipe.epochs, recipe.batch_size, recipe.base, recipe.mode) == (9, 8, "birds@1", "head")
    assert (recipe.optimizer.learning_rate, recipe.optimizer.momentum) == (0.25, 0.1)
    assert recipe.loss.label_smoothing == 0.1


def test_an_architecture_on_the_command_line_takes_the_place_of_the_documents_base(tmp_path: Path) -> None:
    document = tmp_path / "r.toml"
    document.write_text('base = "birds@1"\n')
    recipe = new_recipe(Wishes(document=document, preset="fashion_cnn"))
    assert (recipe.base, recipe.preset, recipe.mode) == (None, "fashion_cnn", "scratch")


def test_a_recipe_that_was_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    for recipe in (HEAD, make_recipe(None, base=None, preset="cifar_vgg_bn")):
        document = tmp_path / "r.toml"
        document.write_text(write_recipe(recipe))
        assert new_recipe(Wishes(document=document)) == recipe


@pytest.mark.parametrize(
    ("wishes", "part"),
    [
        ({}, "--base MODEL"),
        ({"base": "a", "preset": "b"}, "exclude each other"),
        ({"base": "a", "epochs": "+3"}, "--continue RUN"),
        ({"base": "a", "epochs": "many"}, "expected a number, got 'many'"),
        ({"base": "a", "epochs": "0"}, "greater than or equal to 1"),
        ({"base": "a", "settings": ["epochs"]}, "KEY=VALUE"),
        ({"base": "a", "settings": ["optimizer.lr=1"]}, "Did you mean optimizer"),
        ({"base": "a", "settings": ["optimizer.name=lion"]}, "'sgd', 'adam' or 'adamw', got 'lion'"),
        ({"base": "a", "settings": ["stopping.patience=-1"]}, "stopping.patience"),
        ({"base": "a", "settings": ["mode=quick"]}, "'quick'"),
    ],
)
def test_what_cannot_be_is_told_with_what_came(wishes: dict[str, Any], part: str) -> None:
    with pytest.raises((CommandError, InvalidRecipe), match=part.replace("+", r"\+")):
        new_recipe(Wishes(**wishes))


def test_a_document_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no recipe") as caught:
        new_recipe(Wishes(document=tmp_path / "missing.toml"))
    assert caught.value.code is Exit.NOT_FOUND
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(CommandError, match="no text"):
        new_recipe(Wishes(document=tmp_path / "picture.toml"))
    (tmp_path / "bad.toml").write_text("epochs = ")
    with pytest.raises(InvalidRecipe, match="not TOML"):
        new_recipe(Wishes(document=tmp_path / "bad.toml"))


def test_a_run_that_goes_on_has_so_many_epochs_more() -> None:
    assert further_recipe(HEAD, 10, Wishes(epochs="+10")).epochs == HEAD.epochs + 10
    assert further_recipe(HEAD, 10, Wishes(epochs="25")).epochs == 25
    changed = further_recipe(HEAD, 10, Wishes(epochs="+1", settings=["optimizer.learning_rate=0.0001"]))
    assert changed.optimizer.learning_rate == 0.0001
    assert changed.base == HEAD.base


def test_a_run_that_was_ended_early_goes_on_from_where_it_ended() -> None:
    assert further_recipe(HEAD, 4, Wishes(epochs="+2")).epochs == 6
    assert further_recipe(HEAD, 4, Wishes(epochs="5")).epochs == 5


def test_a_run_of_two_phases_goes_on_in_its_second_one() -> None:
    before = make_recipe("two_phase", base="birds@1", preset=None)
    after = further_recipe(before, 8, Wishes(epochs="+4"))
    assert (after.epochs, after.second_phase.epochs) == (before.epochs, before.second_phase.epochs + 4)
    assert after.total_epochs == before.total_epochs + 4


@pytest.mark.parametrize(
    ("wishes", "part"),
    [
        ({}, "How far"),
        ({"epochs": "10"}, "has 10 epochs"),
        ({"epochs": "+0"}, "expected more"),
        ({"epochs": "+5", "mode": "full"}, "leave --base"),
        ({"epochs": "+5", "base": "other"}, "leave --base"),
        ({"epochs": "+5", "settings": ["split.seed=3"]}, "--set split"),
        ({"epochs": "+5", "settings": ["image.width=64"]}, "--set image"),
        ({"epochs": "+5", "settings": ["seed=3"]}, "--set seed"),
    ],
)
def test_a_run_that_goes_on_keeps_its_network_and_its_data(wishes: dict[str, Any], part: str) -> None:
    with pytest.raises((CommandError, InvalidRecipe), match=part):
        further_recipe(HEAD, 10, Wishes(**wishes))


def test_every_key_of_a_recipe_is_in_the_table() -> None:
    table = reference()
    for key in all_keys():
        assert f"| `{key}` |" in table


def test_nested_values_have_flat_keys() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2}}, "e": {}}) == {"a": 1, "b.c.d": 2}
