"""The confusion matrix on a report's page: a table whose cells lead to the files behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from worker.reporting.html import Markup, join, tag
from worker.reporting.matrix import Shown, choose_shown, strength
from worker.reporting.metrics import Evaluation, Prediction
from worker.reporting.rows import shorten
from worker.reporting.sections import tile

_SIZES = ((4, "huge"), (14, "large"), (24, "middle"), (1_000, "small"))  # of cells, up to so many classes
_NUMBERED = 24  # classes up to which cells have numbers
_PICTURES = 6  # of a cell
_FILES = 40  # named for a cell; more are counted
_PAIRS = 12  # fewer than half of the classes that a large matrix shows: each pair has its cell
_MANY_CLASSES = 2  # pairs tell more than the matrix itself from more classes than this

Cell = tuple[int, int]


def confusion(evaluation: Evaluation, links: Mapping[Prediction, str]) -> Markup:
    """The matrix, the files behind the cell that was clicked, and the pairs that are confused the most."""
    shown = choose_shown(evaluation)
    files = _files(evaluation, shown)
    note = "Rows are true classes, columns what they were taken for. A click on a cell shows its files."
    if not shown.whole:
        note += f" Of {shown.of:,} classes, the {len(shown.names) - 1} that are confused the most."
    panels = [_panel(shown, cell, files.get(cell, []), links) for cell in sorted(shown.cells)]
    hint = tag("p", "Click a cell to see its files here.", class_="hint")
    sides = tag("div", _switch(shown), tag("div", _table(shown), class_="wide"), class_="matrix-side")
    beside = tag("div", *panels, hint, _worst(evaluation, shown), class_="pairs")
    return join([tag("h2", "Confusion"), tag("p", note, class_="note"), tag("div", sides, beside, class_="matrix-row")])


def _files(evaluation: Evaluation, shown: Shown) -> Mapping[Cell, Sequence[Prediction]]:
    """The predictions behind each cell: mistakes, the most confident first; of right answers the least sure."""
    others = len(shown.names) - 1
    row_of = {evaluation.labels[index]: row for row, index in enumerate(shown.indices) if index is not None}
    files: defaultdict[Cell, list[Prediction]] = defaultdict(list)
    for one in (*evaluation.mistakes, *evaluation.least_sure):
        files[row_of.get(one.true, others), row_of.get(one.predicted, others)].append(one)
    return files


def _switch(shown: Shown) -> Markup | None:
    if len(shown.names) > _NUMBERED:
        return None
    choices = [
        tag("label", tag("input", type="radio", name="cells", value=value, checked=value == "counts"), word)
        for value, word in (("counts", "images"), ("shares", "% of true class"))
    ]
    return tag("div", *choices, class_="switch", role="group", aria_label="What cells show")


def _table(shown: Shown) -> Markup:
    size = len(shown.names)
    kind = next(name for most, name in _SIZES if size <= most)
    head = [tag("th", tag("span", shorten(name, 26)), scope="col", title=name) for name in shown.names]
    rows = [
        tag(
            "tr",
            tag("th", tag("span", shorten(name, 26)), scope="row", title=name),
            *(_cell(shown, (row, column)) for column in range(size)),
        )
        for row, name in enumerate(shown.names)
    ]
    corner = tag("td", class_="corner")
    return tag("table", tag("thead", tag("tr", corner, *head)), tag("tbody", *rows), class_=f"matrix {kind}")


def _kind(shown: Shown, cell: Cell) -> str:
    if cell[0] != cell[1]:
        return "wrong"
    return "right" if shown.indices[cell[0]] is not None else "mixed"  # all others among themselves


def _cell(shown: Shown, cell: Cell) -> Markup:
    if cell not in shown.cells:
        return tag("td", class_="self" if cell[0] == cell[1] else None)
    images, share = shown.cells[cell], shown.share(cell)
    strong = strength(share)
    numbers = (
        [tag("span", f"{images:,}", class_="n"), tag("span", f"{share * 100:.0f}", class_="p")]
        if len(shown.names) <= _NUMBERED
        else []
    )
    title = f"{shown.names[cell[0]]} → {shown.names[cell[1]]}: {images:,} images, {share * 100:.1f} %"
    link = tag("a", *numbers, href=f"#{_anchor(cell)}", title=title, aria_label=title)
    kind = f"{_kind(shown, cell)}{' strong' if strong > 0.55 else ''}"
    return tag("td", link, class_=kind, style=f"--part:{strong:.3f}")


def _anchor(cell: Cell) -> str:
    return f"cell-{cell[0]}-{cell[1]}"


def _panel(shown: Shown, cell: Cell, files: Sequence[Prediction], links: Mapping[Prediction, str]) -> Markup:
    """What is shown once the cell's address is the page's: no script is needed for it."""
    true, guess = shown.names[cell[0]], shown.names[cell[1]]
    images = shown.cells[cell]
    word = "image" if images == 1 else "images"
    kind = _kind(shown, cell)
    title = f"{true}, classified right" if kind == "right" else f"{true} → {guess}"
    note = f"{images:,} {word}, {shown.share(cell) * 100:.1f} % of the true class"
    if kind == "right" and files:
        note += "; the least sure ones:"
    pictured = [one for one in files if one in links][:_PICTURES]
    rest = [one for one in files if one not in pictured][: _FILES - len(pictured)]
    names = [tag("li", tag("i", f"{one.score:.3f}"), " ", one.path) for one in rest]
    left = images - len(pictured) - len(rest)
    more = tag("p", f"and {left:,} more", class_="note") if left > 0 and kind == "wrong" else None
    return tag(
        "div",
        tag("h3", title),
        tag("p", note, class_="note"),
        tag("div", *(tile(one, links) for one in pictured), class_="gallery") if pictured else None,
        tag("ul", *names, class_="files") if names else None,
        more,
        id=_anchor(cell),
        class_="pair",
    )


def _worst(evaluation: Evaluation, shown: Shown) -> Markup | None:
    pairs = evaluation.worst_pairs(_PAIRS)
    if not pairs or len(evaluation.labels) <= _MANY_CLASSES:
        return None
    place = {evaluation.labels[index]: row for row, index in enumerate(shown.indices) if index is not None}
    rows = [
        tag(
            "li",
            tag("b", f"{pair.images:,}"),
            tag("a", pair.true, " → ", pair.predicted, href=f"#{_anchor((place[pair.true], place[pair.predicted]))}"),
            tag("i", f"{pair.share * 100:.1f} %"),
        )
        for pair in pairs
    ]
    return tag("div", tag("h3", "Confused the most"), tag("ol", *rows, class_="worst"), class_="worst-box")
