"""Recipes: defaults that fit, keys that are checked, and a document that comes back as it was written."""

import contextlib
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRecipe
from models.recipes import (
    Recipe,
    all_keys,
    check_recipe,
    make_recipe,
    merge,
    parse_settings,
    read_recipe,
    write_recipe,
)

PARTS = sorted({part for key in all_keys() for part in key.split(".")})


@pytest.mark.parametrize("mode", ["head", "full", "two_phase", "scratch"])
def test_a_recipe_comes_back_from_its_document(mode: str) -> None:
    recipe = make_recipe(
        mode,  # type: ignore[arg-type]  # one of the four words
        base=None if mode == "scratch" else "birds@1",
        preset="cifar_vgg" if mode == "scratch" else None,
        said=parse_settings(["image.width=64", "loss.class_weights=balanced", "schedule.name=plateau"]),
    )
    text = write_recipe(recipe)
    assert check_recipe(read_recipe(text, "r.toml")) == recipe
    assert check_recipe(tomllib.loads(text)) == recipe


def test_a_preset_is_trained_from_nothing_and_a_base_gets_a_head_unless_said_otherwise() -> None:
    assert make_recipe(None, base=None, preset="cifar_cnn").mode == "scratch"
    assert make_recipe(None, base="birds", preset=None).mode == "head"
    assert make_recipe("scratch", base=None, preset="efficientnetv2_b0").loss.label_smoothing == 0.1
    assert make_recipe(None, base=None, preset="cifar_vgg_bn").augmentation.shift == 0.1
    assert make_recipe(None, base=None, preset="cnn_l2").regularization.l2 > 0
    assert make_recipe("two_phase", base="birds", preset=None).total_epochs == 10


def test_what_is_said_goes_over_the_defaults_key_by_key() -> None:
    said = parse_settings(["optimizer.momentum=0.8", "epochs=3", "augmentation.mix=cutmix"])
    recipe = make_recipe("scratch", base=None, preset="efficientnetv2_b0", said=said)
    assert (recipe.epochs, recipe.optimizer.momentum, recipe.optimizer.name) == (3, 0.8, "sgd")
    assert recipe.augmentation.mix == "cutmix"
    assert recipe.augmentation.rand_augment


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("optimizer.learning_rat=1", "Did you mean optimizer.learning_rate"),
        ("epochs=0", "epochs"),
        ("epochs=2.5", "epochs"),
        ("epochs=true", "epochs"),
        ("optimizer.learning_rate=inf", "learning_rate"),
        ("optimizer.learning_rate=nan", "learning_rate"),
        ("split.validation=1", "split.validation"),
        ("loss.label_smoothing=1", "label_smoothing"),
        ("optimizer.name=rmsprop", "optimizer.name"),
        ("mode=[1]", "mode"),
        ("schedule.hold=0.95", "warmup"),
        ("nonsense", "KEY=VALUE"),
        ("a..b=1", "KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(setting: str, told: str) -> None:
    with pytest.raises(InvalidRecipe, match=told):
        make_recipe("head", base="birds", preset=None, said=parse_settings([setting]))


def test_a_start_is_named_exactly_once() -> None:
    for base, preset in ((None, None), ("birds", "cifar_cnn")):
        with pytest.raises(InvalidRecipe, match="exactly one"):
            make_recipe("full", base=base, preset=preset)


def test_a_file_that_is_no_toml_is_told_by_its_name() -> None:
    with pytest.raises(InvalidRecipe, match=r"r\.toml"):
        read_recipe("epochs = = 3", "r.toml")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 3000, "a = " + "{a=" * 3000, "epochs = " + "9" * 5000, "a." * 2000 + "a = 1", "# " * 20_000]
)
def test_a_document_beyond_measure_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(InvalidRecipe) as refusal:
        check_recipe(read_recipe(text, "r.toml"))
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "setting", ["epochs=" + "[" * 3000, "epochs=" + "9" * 5000, "a." * 2000 + "a=1", "b" * 9999 + "=1"]
)
def test_a_setting_beyond_measure_is_refused_in_few_words(setting: str) -> None:
    with pytest.raises(InvalidRecipe) as refusal:
        check_recipe(parse_settings([setting]))
    assert len(str(refusal.value)) < 300


TOML = st.text(alphabet="abe.=[]{}\"',#\n 01-:T_\\u\0\ud800", max_size=60) | st.text(max_size=60)


@given(TOML)
def test_any_text_is_a_recipe_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidRecipe):
        check_recipe(read_recipe(text, "r.toml"))
    with contextlib.suppress(InvalidRecipe):
        check_recipe({"preset": "cifar_vgg", **parse_settings(text.splitlines())})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PARTS) | st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(PARTS), JSON, max_size=5))
def test_any_values_are_a_recipe_or_are_refused(values: dict[str, object]) -> None:
    recipe, words = None, "?"
    try:
        recipe = check_recipe(values)
    except InvalidRecipe as refusal:
        words = str(refusal)
    assert 0 < len(words) < 600
    if recipe is not None:
        assert check_recipe(tomllib.loads(write_recipe(recipe))) == recipe


def test_every_key_can_be_set() -> None:
    values = {key: value for key, value in _flat(make_recipe("head", base="b", preset=None)).items() if key != "preset"}
    assert set(values) <= set(all_keys())
    for key, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if value is not None:
            assert make_recipe("head", base="b", preset=None, said=parse_settings([f"{key}={text}"]))


def _flat(recipe: Recipe) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in recipe.model_dump().items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat


nested = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6
)


@given(st.dictionaries(st.sampled_from("abc"), nested), st.dictionaries(st.sampled_from("abc"), nested))
def test_merging_keeps_what_is_above_and_adds_what_is_below(below: dict[str, object], above: dict[str, object]) -> None:
    merged = merge(below, above)
    assert set(merged) == set(below) | set(above)
    assert merge(merged, above) == merged
    for key, value in above.items():
        if not isinstance(value, dict):
            assert merged[key] == value
