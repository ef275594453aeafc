"""Groups of items: names and links, joined."""

from models.datasets.groups import join


def test_items_with_one_name_are_one_group() -> None:
    assert join(["a", "b", "a"]) == [0, 1, 0]


def test_items_without_a_name_are_alone() -> None:
    assert join([None, None]) == [0, 1]


def test_links_join_names_and_each_other() -> None:
    assert join(["a", "a", "b", "b", None], [(4, 3), (1, 2)]) == [0, 0, 0, 0, 0]


def test_a_long_chain_is_one_group() -> None:
    assert set(join([None] * 50_000, [(place + 1, place) for place in range(49_999)])) == {0}
