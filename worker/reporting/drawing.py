"""What figures are drawn with: one palette for light and dark, fonts, axes, and saving as SVG or PNG.

Only Matplotlib's object interface is used: no pyplot, no backend is chosen for the process. An SVG names its colours as
CSS variables with two sets of values, so that it follows the reader's light or dark page; a PNG is the light one.
"""

from __future__ import annotations

import re
import threading
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from worker.reporting.rows import clean

# Role -> (light, dark). The two hues stay apart for colour-blind eyes and in grey; every light value is unique: by it
# a role is found again in the SVG that Matplotlib wrote.
PALETTE = {
    "paper": ("#fdfdfc", "#16181d"),
    "ink": ("#1f2430", "#e6e8ec"),
    "muted": ("#667085", "#98a1b0"),
    "line": ("#e3e6eb", "#2c313a"),
    "blue": ("#2563b8", "#6aa5f2"),
    "orange": ("#d9661f", "#f2965a"),
    "green": ("#2b8a5b", "#5cc795"),
    "onfill": ("#fefefe", "#0e1116"),
}
PAPER, INK, MUTED, LINE, BLUE, ORANGE, GREEN, ONFILL = (light for light, _ in PALETTE.values())

_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# For what DejaVu Sans, which comes with Matplotlib, has no glyph; each only where it is installed.
_FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Noto Sans Arabic",
    "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
_WRITING = threading.Lock()
_DPI = 160


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches of 100 pixels of the page, on the palette's paper."""
    return Figure(figsize=(width, height), facecolor=PAPER, layout="constrained", dpi=_DPI)


@cache
def _families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in installed)]


def style_text(text: Text, color: str = INK, size: float = 9.0, **more: Any) -> Text:
    """Give a text its look, and take it as it is: no dollar sign in a label is the beginning of a formula."""
    text.set(text=clean(text.get_text()), color=color, fontsize=size, fontfamily=_families(), parse_math=False, **more)
    return text


def style_axes(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Quiet axes: a grid behind, no frame, small grey numbers, the title at the left."""
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=LINE, linewidth=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, pad=5)
    style_text(axes.set_title(title, loc="left", pad=10), size=11, fontweight="bold")
    style_text(axes.set_xlabel(xlabel), MUTED)
    style_text(axes.set_ylabel(ylabel), MUTED)
    style_ticks(axes)


def style_ticks(axes: Axes) -> None:
    """The look of the numbers or labels along the axes; once more after ticks were set."""
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        style_text(text, MUTED, 8.5)
    axes.tick_params(labelcolor=MUTED, labelsize=8.5, labelfontfamily="DejaVu Sans")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as .svg or .png. Raises ValueError for any other ending."""
    if path.suffix not in {".svg", ".png"}:
        raise ValueError(f"Expected a name ending in .svg or .png, got {path.name!r}.")
    path.write_bytes(to_svg(figure).encode() if path.suffix == ".svg" else to_png(figure))
    return path


def save_both(figure: Figure, stem: Path) -> None:
    """Write a figure as stem.svg and stem.png; its layout is worked out once."""
    save(figure, stem.with_name(f"{stem.name}.svg"))
    figure.set_layout_engine("none")
    save(figure, stem.with_name(f"{stem.name}.png"))


def to_png(figure: Figure) -> bytes:
    """The figure's PNG in the light palette."""
    return _written(figure, "png")


def to_svg(figure: Figure, standalone: bool = True) -> str:
    """The figure's SVG, the same for the same figure. Not standalone: to stand in a page that has the palette."""
    svg = _written(figure, "svg", tight=standalone).decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(font: [^;\"]*?\d[\d.]*px)[^;\"]*", rf"\1 {_SANS}", svg)
    for role, (light, _) in PALETTE.items():
        svg = svg.replace(light, f"var(--{role})")
    end = svg.index(">") + 1
    opening, rest = svg[:end], svg[end:]
    if not standalone:  # its size is the page's affair, and names of groups would meet those of another figure
        opening = re.sub(r' (width|height|version)="[^"]*"', "", opening)
        return opening + re.sub(r'<g id="[^"]*"', "<g", rest)
    style = f"<style>{palette_css()}svg {{ background: var(--paper); }}</style>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{opening}\n {style}{rest}'


def palette_css() -> str:
    """The palette as CSS variables: light, and dark where the reader prefers it."""
    light, dark = (" ".join(f"--{role}: {values[which]};" for role, values in PALETTE.items()) for which in (0, 1))
    return (
        f":root {{ color-scheme: light dark; {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }} "
    )


def _written(figure: Figure, kind: str, tight: bool = True) -> bytes:
    target = BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    # Matplotlib reads how to write an SVG from its global settings alone: they are changed for one writing at a time.
    settings = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pixmill"})
    with _WRITING, settings, warnings.catch_warnings():
        # A label in a script that no installed font has: boxes in the PNG; in the SVG the reader's fonts show it.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        dpi: float | str = "figure" if kind == "png" else 72
        box = "tight" if tight else None
        figure.savefig(target, format=kind, dpi=dpi, metadata=metadata, bbox_inches=box, pad_inches=0.12)
    return target.getvalue()
