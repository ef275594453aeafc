"""The report of a training or an evaluation: a folder with one page that needs no server, figures, JSON and CSV."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from worker.reporting import figures, record
from worker.reporting.census import data
from worker.reporting.confusion import confusion
from worker.reporting.drawing import palette_css, save_both
from worker.reporting.gallery import PictureSource, sheet_figure
from worker.reporting.html import Markup, tag
from worker.reporting.metrics import Evaluation
from worker.reporting.rows import EpochLine
from worker.reporting.sections import about, calibration, classes, curve, gallery, recipe, summary
from worker.reporting.thumbnails import Thumbnails, make_thumbnails

_SHEET = 24  # images of mistakes.svg and .png


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What a report tells. All texts may come from anywhere: they are escaped."""

    title: str  # such as "birds@3"
    created_at: datetime
    subtitle: str = ""  # such as "200 test images of cats_dogs"
    evaluation: Evaluation | None = None
    epochs: Sequence[EpochLine] = ()
    restarts: Sequence[int] = ()  # epochs that a resumed attempt began with
    facts: Mapping[str, str] = field(default_factory=dict)  # shown in order: "Run", "Base model", "Device", "Took", …
    census: Mapping[str, Any] | None = None  # as models.datasets.census.Census.to_json has it
    recipe: str = ""  # as TOML
    versions: Mapping[str, str] = field(default_factory=dict)  # of libraries and code
    picture: PictureSource | None = None  # gives the bytes of an image; without it the gallery has no pictures


def write_report(folder: Path, facts: ReportFacts) -> Path:
    """Write the report into `folder` (made where missing, files of the same names replaced); the page's path.

    Files: index.html, images/, report.json, classes.csv, curve, confusion, confusion_counts, calibration and mistakes
    (each .svg and .png); what the facts have nothing for is left out. The page is written last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    thumbnails = make_thumbnails(folder, facts.evaluation, facts.picture)
    for name, figure in _figures(facts, thumbnails):
        save_both(figure, folder / name)
    record.write_json(folder / "report.json", _recorded(facts))
    if facts.evaluation is not None:
        record.write_classes(folder / "classes.csv", facts.evaluation)
    page = folder / "index.html"
    page.write_text(_page(facts, thumbnails), encoding="utf-8")
    return page


def _figures(facts: ReportFacts, thumbnails: Thumbnails) -> Iterator[tuple[str, Figure]]:
    if facts.epochs:
        yield "curve", figures.curve_figure(facts.epochs, facts.restarts, facts.title)
    if facts.evaluation is not None:
        yield "confusion", figures.confusion_figure(facts.evaluation)
        yield "confusion_counts", figures.confusion_figure(facts.evaluation, normalised=False)
        yield "calibration", figures.calibration_figure(facts.evaluation)
    if thumbnails.links:
        yield "mistakes", sheet_figure(thumbnails.gallery[:_SHEET], f"{facts.title}: misclassified")


def _recorded(facts: ReportFacts) -> dict[str, Any]:
    return {
        "title": facts.title,
        "subtitle": facts.subtitle,
        "created_at": facts.created_at.isoformat(),
        "facts": facts.facts,
        "evaluation": record.evaluation_record(facts.evaluation) if facts.evaluation else None,
        "training": record.training_record(facts.epochs, facts.restarts) if facts.epochs else None,
        "census": facts.census,
        "recipe": facts.recipe,
        "versions": facts.versions,
    }


def _page(facts: ReportFacts, thumbnails: Thumbnails) -> str:
    style, script = _own("page.css"), _own("page.js")
    sections = _sections(facts, thumbnails)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        # A second lock behind the escaping: nothing is loaded but the images beside the page, only our script runs.
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{facts.title} · Pixmill report"),
        tag("style", Markup(palette_css() + style)),
    )
    chips = [tag("a", name, href=f"#{key}") for key, name, _ in sections]
    body = tag(
        "body",
        _header(facts),
        tag("nav", *chips, aria_label="Sections") if len(chips) > 1 else None,
        tag("main", *(tag("section", body, id=key) for key, _, body in sections)),
        tag("footer", "Written by Pixmill, ", facts.created_at.strftime("%Y-%m-%d %H:%M %Z").strip(), "."),
        tag("script", script),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(facts: ReportFacts) -> Markup:
    subtitle = tag("p", facts.subtitle, class_="subtitle") if facts.subtitle else None
    top = tag("div", tag("p", "Pixmill report", class_="mark"), tag("h1", facts.title), subtitle)
    return tag("header", top, summary(facts.evaluation, facts.epochs), about(facts.facts))


def _sections(facts: ReportFacts, thumbnails: Thumbnails) -> list[tuple[str, str, Markup]]:
    """Key, name and body of each section that there is something to tell of."""
    evaluation = facts.evaluation
    made: list[tuple[str, str, Markup]] = []
    if facts.epochs:
        made.append(("curve", "Curve", curve(facts.epochs, facts.restarts)))
    if evaluation is not None:
        made.append(("confusion", "Confusion", confusion(evaluation, thumbnails.links)))
        made.append(("mistakes", "Mistakes", gallery(evaluation, thumbnails.links)))
        made.append(("classes", "Classes", classes(evaluation)))
        made.append(("calibration", "Calibration", calibration(evaluation)))
    if facts.census:
        made.append(("data", "Data", data(facts.census)))
    if facts.recipe or facts.versions:
        made.append(("recipe", "Recipe", recipe(facts.recipe, facts.versions)))
    return made


def _own(name: str) -> Markup:
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _policy(script: str) -> str:
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
