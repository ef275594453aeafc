"""The data of a training on a report's page: counts per class and split, and what was found wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.reporting.html import Markup, join, tag

_SPLITS = ("train", "val", "test")
_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}


def data(census: Mapping[str, Any]) -> Markup:
    """Counts and findings; unknown keys of the census are left to report.json."""
    counts: Mapping[str, Mapping[str, int]] = census.get("counts") or {}
    findings = [tag("li", text) for text in _findings(census)]
    told = tag("ul", *findings, class_="findings") if findings else None
    return join([tag("h2", "Data"), told, _table(counts) if counts else None])


def _findings(census: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing that is worth knowing."""
    told = []
    unreadable: Mapping[str, int] = census.get("unreadable") or {}
    if unreadable:
        parts = ", ".join(f"{count:,} {code}" for code, count in sorted(unreadable.items()))
        told.append(f"{sum(unreadable.values()):,} files could not be read: {parts}.")
    for key, text in (
        ("identical", "{:,} pictures are the same bytes as another one."),
        ("near", "{:,} further pictures are near-identical to another one."),
        ("conflicts", "{:,} pairs of identical pictures have two different labels."),
        ("leaks", "{:,} held-out pictures have a copy among those that were trained on."),
    ):
        if census.get(key):
            told.append(text.format(census[key]))
    imbalance = census.get("imbalance")
    if isinstance(imbalance, int | float) and imbalance > 1.5:
        told.append(f"The largest class has {imbalance:.1f} times the training pictures of the smallest.")
    told += _sizes(census)
    return told


def _sizes(census: Mapping[str, Any]) -> list[str]:
    width, height = census.get("width"), census.get("height")
    if not isinstance(width, Mapping) or not isinstance(height, Mapping):
        return []
    small, middle, large = (f"{width.get(key)} × {height.get(key)}" for key in ("smallest", "median", "largest"))
    if small == large:
        return [f"Every picture has {small} pixels."]
    return [f"Sizes: {small} to {large} pixels, {middle} in the median."]


def _table(counts: Mapping[str, Mapping[str, int]]) -> Markup:
    splits = [split for split in _SPLITS if any(parts.get(split) for parts in counts.values())]
    most = max((sum(parts.values()) for parts in counts.values()), default=1) or 1
    rows = [_row(label, parts, splits, most) for label, parts in sorted(counts.items())]
    totals = [sum(parts.get(split, 0) for parts in counts.values()) for split in splits]
    names = ("Class", *(_NAMES[split] for split in splits), "All")
    head = tag("tr", *(tag("th", tag("button", name, type="button"), scope="col") for name in names))
    cells = [tag("td", f"{total:,}") for total in (*totals, sum(totals))]
    foot = tag("tr", tag("th", "All", scope="row"), *cells)
    table = tag("table", tag("thead", head), tag("tbody", *rows), tag("tfoot", foot), class_="sortable")
    return tag("div", table, class_="wide tall")


def _row(label: str, parts: Mapping[str, int], splits: list[str], most: int) -> Markup:
    total = sum(parts.values())
    cells = [tag("td", f"{parts.get(split, 0):,}", data_value=parts.get(split, 0)) for split in splits]
    bar = tag("span", class_="bar", style=f"--part:{total / most:.4f}")
    return tag("tr", tag("th", label, scope="row"), *cells, tag("td", f"{total:,}", bar, data_value=total))
