"""The laws of a split: what is given stays, shares hold, groups stay whole, order and names do not matter."""

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.datasets.splits import Split, assign, understand
from models.errors import InvalidRecipe
from models.recipes import SplitChoice

Item = tuple[str, str | None, int, bytes]  # label, given split, group, key


@st.composite
def item_lists(draw: st.DrawFn, mixed: bool) -> list[Item]:
    """Items of a few labels and groups; `mixed`: groups may have several labels, and items a given split."""
    groups = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=40))
    words = st.sampled_from([None, None, "train", "Validation", "test"]) if mixed else st.none()
    items: list[Item] = []
    for number, (label, size) in enumerate(groups):
        for _ in range(size):
            name = draw(st.sampled_from("abc")) if mixed else label
            items.append((name, draw(words), number, b"%d" % len(items)))
    return items


choices = st.builds(SplitChoice, validation=st.floats(0, 0.6), test=st.floats(0, 0.3), seed=st.integers(0, 99))


def split(items: list[Item], choice: SplitChoice) -> list[Split]:
    labels, words, groups, keys = (list(column) for column in zip(*items, strict=True))
    return assign(labels, words, groups, keys, choice)


@given(item_lists(mixed=True), choices, st.randoms())
@settings(deadline=None)
def test_the_order_of_items_and_the_names_of_groups_do_not_matter(
    items: list[Item], choice: SplitChoice, chance: random.Random
) -> None:
    before = {item[3]: part for item, part in zip(items, split(items, choice), strict=True)}
    other = [(label, word, 1000 - group, key) for label, word, group, key in items]
    chance.shuffle(other)
    assert {item[3]: part for item, part in zip(other, split(other, choice), strict=True)} == before


@given(item_lists(mixed=True), choices)
@settings(deadline=None)
def test_groups_stay_whole_and_what_is_given_stays(items: list[Item], choice: SplitChoice) -> None:
    parts = split(items, choice)
    together = defaultdict(set)
    for (_, word, group, _), part in zip(items, parts, strict=True):
        if word in ("Validation", "test"):
            assert part == understand(word)
        together[group].add(part)
    given_to = {group: {word for _, word, number, _ in items if number == group} for group in together}
    for group, found in together.items():
        if not given_to[group] & {"Validation", "test"}:
            assert len(found) == 1, "no given word divides this group"
        elif "train" not in given_to[group]:
            assert "train" not in found, "an item without a word follows its mate that is held out"


@given(item_lists(mixed=False), choices)
@settings(deadline=None)
def test_each_label_keeps_a_group_in_train_and_lends_one_where_it_has_three(
    items: list[Item], choice: SplitChoice
) -> None:
    groups: defaultdict[str, defaultdict[Split, set[int]]] = defaultdict(lambda: defaultdict(set))
    for (label, _, group, _), part in zip(items, split(items, choice), strict=True):
        groups[label][part].add(group)
    taken = sum(share > 0 for share in (choice.validation, choice.test))
    for found in groups.values():
        assert found["train"]
        if sum(map(len, found.values())) >= 3 and taken:
            assert found["val" if choice.validation > 0 else "test"]


@given(item_lists(mixed=False), st.floats(0.05, 0.4), st.integers(0, 99))
@settings(deadline=None)
def test_a_label_gets_its_share_but_for_half_a_group(items: list[Item], share: float, seed: int) -> None:
    held: Counter[str] = Counter()
    for (label, _, _, _), part in zip(items, split(items, SplitChoice(validation=share, seed=seed)), strict=True):
        held[label] += part == "val"
    for label in held:
        sizes = Counter(group for name, _, group, _ in items if name == label)
        if len(sizes) >= 3 and share * sizes.total() >= max(sizes.values()):  # else the guarantees may rule
            assert abs(held[label] - share * sizes.total()) <= max(sizes.values()) / 2


def many(**changed: Any) -> list[Split]:
    facts: dict[str, Any] = {
        "labels": ["cat", "dog"] * 500,
        "given": [None] * 1000,
        "groups": list(range(1000)),
        "keys": [b"%d" % number for number in range(1000)],
        "choice": SplitChoice(validation=0.15, test=0.1),
    }
    return assign(**{**facts, **changed})


def test_shares_are_exact_where_groups_are_single_pictures() -> None:
    assert Counter(many()) == {"train": 750, "val": 150, "test": 100}


def test_another_seed_is_another_split() -> None:
    assert many(choice=SplitChoice(seed=1)) != many(choice=SplitChoice(seed=2))


def test_this_split_is_the_same_on_every_machine() -> None:
    assert [number for number, part in enumerate(many()) if part == "val"][:6] == [6, 20, 34, 37, 42, 47]


def test_the_same_bytes_stay_together_without_a_group() -> None:
    parts = many(keys=[b"%d" % (number // 4) for number in range(1000)])
    assert all(len(set(parts[at : at + 4])) == 1 for at in range(0, 1000, 4))


def test_a_given_validation_part_is_not_added_to() -> None:
    given = ["dev" if number < 10 else "training" for number in range(1000)]
    assert Counter(many(given=given, choice=SplitChoice(validation=0.5))) == {"val": 10, "train": 990}


@pytest.mark.parametrize("seed", range(10))
def test_no_label_is_left_without_training_pictures_by_a_group_of_many_labels(seed: int) -> None:
    labels, keys = ["a", "b", "a", "c", "a"], [b"0", b"1", b"2", b"3", b"4"]
    parts = assign(labels, [None] * 5, [0, 0, 1, 1, 2], keys, SplitChoice(validation=0.4, seed=seed))
    assert parts == ["train", "train", "train", "train", "val"]


def test_a_group_far_larger_than_the_share_is_not_taken() -> None:
    facts = ["a"] * 100, [None] * 100, [0] * 20 + list(range(1, 81)), [b"%d" % number for number in range(100)]
    for seed in range(100):
        parts = assign(*facts, SplitChoice(validation=0.05, seed=seed))
        assert parts[:20] == ["train"] * 20
        assert parts.count("val") == 5


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(InvalidRecipe, match="got 'trian'"):
        assign(["a"], ["trian"], [0], [b"0"], SplitChoice())


@pytest.mark.parametrize(("word", "meant"), [("DEV", "val"), ("testing", "test"), (" Training ", "train"), ("", None)])
def test_common_words_are_understood(word: str, meant: str | None) -> None:
    assert understand(word) == meant
