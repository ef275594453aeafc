"""HTML from Python: elements whose texts and attributes are escaped unless they are markup already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from worker.reporting.rows import clean

_VOID = {"br", "col", "img", "input", "link", "meta"}


class Markup(str):
    """Text that is HTML already; made by `tag` and `join`, else only of this package's own files."""

    __slots__ = ()


Child = Markup | str | int | None


def tag(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """One element. An attribute's trailing underscore is dropped, others become hyphens; None and False omit it."""
    opened = f"<{name}{''.join(_attribute(*one) for one in attributes.items())}>"
    return Markup(opened if name in _VOID else f"{opened}{join(children)}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Markup:
    """Markup of several; texts are escaped, None is nothing."""
    return Markup(between.join(_child(child) for child in children if child is not None))


def _child(child: Child) -> str:
    return child if isinstance(child, Markup) else escape(clean(str(child)))


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(clean(str(value)))}"'
