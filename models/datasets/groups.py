"""Groups of items that must stay on one side of a split: named so by their owner, or copies of each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def join(named: Sequence[Hashable | None], links: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Each item's group, given names (None for none) and links between places; items with one name are linked too.

    A group's number is the first place that belongs to it.
    """
    above = list(range(len(named)))
    first: dict[Hashable, int] = {}
    for place, name in enumerate(named):
        if name is not None:
            _link(above, first.setdefault(name, place), place)
    for a, b in links:
        _link(above, a, b)
    return [_top(above, place) for place in range(len(named))]


def _link(above: list[int], a: int, b: int) -> None:
    a, b = _top(above, a), _top(above, b)
    above[max(a, b)] = min(a, b)


def _top(above: list[int], place: int) -> int:
    while above[place] != place:
        above[place] = above[above[place]]  # the way is halved for the next who goes it
        place = above[place]
    return place
