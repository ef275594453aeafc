"""The sections of a report's page: summary, curve, mistakes, classes, calibration, recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from worker.reporting.calibration import draw_confidence, draw_reliability
from worker.reporting.curves import draw_curve, panels_of
from worker.reporting.drawing import new_figure, to_svg
from worker.reporting.html import Markup, join, tag
from worker.reporting.metrics import ClassMetrics, Evaluation, Prediction
from worker.reporting.rows import EpochLine, best_epoch, phase_starts
from worker.reporting.thumbnails import GALLERY

_PANEL = (3.9, 2.9)  # inches of one chart
_FILTERED = 20  # classes from which their table has a field to search by name


def summary(evaluation: Evaluation | None, epochs: Sequence[EpochLine]) -> Markup:
    """The few numbers that one looks for first."""
    tiles = []
    if evaluation is not None:
        correct = f"{evaluation.correct:,} of {evaluation.images:,} images"
        tiles.append(_figure("Accuracy", percent(evaluation.accuracy), correct))
        if 1 < evaluation.k < len(evaluation.labels):
            tiles.append(_figure(f"Top-{evaluation.k}", percent(evaluation.top5), f"among {evaluation.k} answers"))
        tiles.append(_figure("Macro F1", f"{evaluation.macro.f1:.4f}", f"over {len(evaluation.labels):,} classes"))
        tiles.append(_figure("Calibration error", f"{evaluation.ece:.4f}", "0 is a model that knows itself"))
    best = best_epoch(epochs)
    if best is not None:
        value = f"val. loss {best.val_loss:.4f}" if best.val_loss is not None else "its weights were kept"
        tiles.append(_figure("Best epoch", str(best.epoch), f"of {epochs[-1].epoch}, {value}"))
    return tag("div", *tiles, class_="figures")


def percent(share: float) -> str:
    """A share as it is read: two decimals."""
    return f"{share * 100:.2f} %"


def _figure(name: str, value: str, note: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value), tag("dd", note, class_="note"))


def about(facts: Mapping[str, str]) -> Markup | None:
    """Names and values, as a list of two columns."""
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    return tag("dl", *pairs, class_="about") if pairs else None


def curve(epochs: Sequence[EpochLine], restarts: Sequence[int]) -> Markup:
    """Charts of loss, accuracy and learning rate, and every epoch in a table to open."""
    charts = []
    for panel in panels_of(epochs):
        figure = new_figure(*_PANEL)
        draw_curve(figure.subplots(), epochs, restarts, panel)
        charts.append(tag("figure", Markup(to_svg(figure, standalone=False)), role="img", aria_label=panel.title))
    notes = []
    if restarts:
        numbers = ", ".join(str(number) for number in sorted(set(restarts)))
        notes.append(f"↻ and dashed lines: resumed from a checkpoint at epoch {numbers}.")
    notes += [f"“{name}” begins with epoch {number}." for number, name in phase_starts(epochs)]
    note = tag("p", " ".join(notes), class_="note") if notes else None
    return join([tag("h2", "Curve"), note, tag("div", *charts, class_="charts"), _epochs(epochs)])


def _epochs(epochs: Sequence[EpochLine]) -> Markup:
    names = ("Epoch", "Phase", "Loss", "Accuracy", "Val. loss", "Val. accuracy", "Learning rate", "Images/s", "Seconds")
    best = best_epoch(epochs)
    rows = [
        tag(
            "tr",
            tag("td", f"{epoch.epoch}{' ★' if epoch is best else ''}"),
            tag("td", epoch.phase, class_="name"),
            *(
                tag("td", number(value, form))
                for value, form in (
                    (epoch.loss, ".4f"),
                    (epoch.accuracy, ".4f"),
                    (epoch.val_loss, ".4f"),
                    (epoch.val_accuracy, ".4f"),
                    (epoch.learning_rate, ".3g"),
                    (epoch.images_per_s, ",.0f"),
                    (epoch.seconds, ",.1f"),
                )
            ),
            class_="best" if epoch is best else None,
        )
        for epoch in epochs
    ]
    head = tag("tr", *(tag("th", name, class_="name" if name == "Phase" else None) for name in names))
    table = tag("table", tag("thead", head), tag("tbody", *rows))
    word = "epoch" if len(epochs) == 1 else "epochs"
    opened = tag("summary", f"All numbers of {len(epochs)} {word}")
    return tag("details", opened, tag("div", table, class_="wide"))


def number(value: float | None, form: str = ".4f") -> str:
    """A number, or a dash where it is not defined."""
    return "–" if value is None else format(value, form)


def gallery(evaluation: Evaluation, links: Mapping[Prediction, str]) -> Markup:
    """The misclassified images, the most confident first; those whose label may be wrong are marked."""
    if not evaluation.mistakes:
        done = f"All {evaluation.images:,} images were classified right."
        return join([tag("h2", "Mistakes"), tag("p", done, class_="empty")])
    shown = evaluation.mistakes[:GALLERY]
    suspects = set(evaluation.suspects)
    notes = [f"{len(evaluation.mistakes):,} images were misclassified, the most confident first."]
    if len(shown) < len(evaluation.mistakes):
        notes.append(f"These are the first {len(shown)}.")
    if suspects:
        notes.append(
            f"“Check label” ({len(suspects):,}): the model is as sure as it is, on average, of images of that class "
            "that it gets right, so the label may be what is wrong."
        )
    note = tag("p", " ".join(notes), class_="note")
    if not links:
        return join([tag("h2", "Mistakes"), note, _mistakes(shown, suspects)])
    tiles = [tile(one, links, one in suspects) for one in shown]
    return join([tag("h2", "Mistakes"), note, tag("div", *tiles, class_="gallery")])


def _mistakes(shown: Sequence[Prediction], suspects: Set[Prediction]) -> Markup:
    """A table instead of the gallery, where no picture can be shown."""
    head = tag("tr", *(tag("th", name, class_="name") for name in ("Predicted", "Score", "True", "File", "")))
    rows = [
        tag(
            "tr",
            tag("td", one.predicted, class_="name"),
            tag("td", f"{one.score:.3f}"),
            tag("td", one.true, class_="name"),
            tag("td", one.path, class_="name"),
            tag("td", "check label" if one in suspects else "", class_="name"),
        )
        for one in shown
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *rows), class_="full"), class_="wide tall")


def tile(one: Prediction, links: Mapping[Prediction, str], suspect: bool = False) -> Markup:
    """One image with what was said, how sure, and what is true."""
    link = links.get(one)
    kind = "tiny" if link and link.endswith(".png") else None
    image = (
        tag("img", src=link, alt=f"{one.true}, taken for {one.predicted}", loading="lazy", class_=kind)
        if link
        else tag("span", "no picture", class_="gone")
    )
    said = tag("span", tag("b", one.predicted), tag("i", f"{one.score:.3f}"), class_="said")
    true = tag("span", "is ", tag("b", one.true), class_="true")
    name = tag("span", one.path.rsplit("/", 1)[-1], class_="file")
    mark = tag("span", "check label", class_="suspect") if suspect else None
    frame = tag("div", image, mark, class_="frame")
    return tag("figure", frame, tag("figcaption", said, true, name), title=one.path)


def classes(evaluation: Evaluation) -> Markup:
    """One row per class, the weakest first; a click on a column's name sorts by it."""
    ordered = sorted(evaluation.classes, key=lambda row: (row.f1 is None, row.f1 or 0.0, row.label))
    names = ("Class", "Images", "Right", "Precision", "Recall", "F1")
    head = tag("tr", *(tag("th", tag("button", name, type="button"), scope="col") for name in names))
    table = tag("table", tag("thead", head), tag("tbody", *map(_class_row, ordered)), class_="sortable")
    search = (
        tag("input", type="search", placeholder="Find a class", aria_label="Find a class", class_="search")
        if len(ordered) >= _FILTERED
        else None
    )
    averages = (
        f"Macro: precision {evaluation.macro.precision:.4f}, recall {evaluation.macro.recall:.4f}. "
        f"Weighted: precision {evaluation.weighted.precision:.4f}, recall {evaluation.weighted.recall:.4f}, "
        f"F1 {evaluation.weighted.f1:.4f}."
    )
    note = tag("p", averages, class_="note")
    return join([tag("h2", "Classes"), note, search, tag("div", table, class_="wide tall")])


def _class_row(row: ClassMetrics) -> Markup:
    counts = [tag("td", f"{value:,}", data_value=value) for value in (row.support, row.correct)]
    scores = [_score(value) for value in (row.precision, row.recall, row.f1)]
    return tag("tr", tag("th", row.label, scope="row"), *counts, *scores)


def _score(value: float | None) -> Markup:
    if value is None:
        return tag("td", "–", data_value=-1)
    bar = tag("span", class_="bar", style=f"--part:{value:.4f}")
    return tag("td", f"{value:.4f}", bar, data_value=f"{value:.6f}")


def calibration(evaluation: Evaluation) -> Markup:
    """Are scores to be trusted?"""
    charts = []
    for name, draw in (("Right, by score", draw_reliability), ("Images, by score", draw_confidence)):
        figure = new_figure(*_PANEL)
        draw(figure.subplots(), evaluation)
        charts.append(tag("figure", Markup(to_svg(figure, standalone=False)), role="img", aria_label=name))
    note = "Of images with a score of 0.8, four in five should be right. Orange in the left chart: surer than right."
    return join([tag("h2", "Calibration"), tag("p", note, class_="note"), tag("div", *charts, class_="charts")])


def recipe(text: str, versions: Mapping[str, str]) -> Markup:
    """The recipe to run again, and what it was run with."""
    shown = tag("pre", join(text.strip().splitlines(), "\n")) if text else None
    used = join([tag("h3", "Versions"), about(versions) or ""]) if versions else None
    return join([tag("h2", "Recipe" if text else "Versions"), shown, used if text else about(versions)])
