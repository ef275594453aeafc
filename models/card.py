"""The model card: what a person reads about a version, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.manifest import ModelVersion

LABELS_SHOWN = 20
ROWS_SHOWN = 100  # of the table of classes; beyond, the weakest are shown
WEAKEST_SHOWN = 20
FEW_PICTURES = 30  # of a class: its figures say little
MAX_BYTES = 1 << 20  # of a card that comes with a bundle


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """How the version was trained. `images`: pictures by split; `recipe`: its choices in short, for a person."""

    run: str
    images: Mapping[str, int]
    recipe: str
    epochs: int
    best_epoch: int
    monitor: str
    best_value: float
    seconds: float


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """One class in an evaluation: how many pictures it has, and how well they and it were found, 0 to 1."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class EvaluationFacts:
    """How the version answered labelled pictures it was not trained on."""

    split: str
    images: int
    accuracy: float
    top5: float
    classes: Sequence[ClassFacts]


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What is known of a version beyond its manifest. Empty texts are replaced by what follows from the rest."""

    training: TrainingFacts | None = None
    evaluation: EvaluationFacts | None = None
    intended_use: str = ""
    limits: str = ""


def write_card(version: ModelVersion, facts: CardFacts | None = None) -> None:
    """Write `card.md` into the version's folder."""
    (version.path / "card.md").write_text(card_text(version, facts), encoding="utf-8")


def card_text(version: ModelVersion, facts: CardFacts | None = None) -> str:
    """The card as Markdown: what the version is, how it was made, how good it is, and what it is for."""
    known = facts or CardFacts()
    lines = list(_summary(version))
    if known.training is not None:
        lines += _training(known.training)
    if known.evaluation is not None:
        lines += _evaluation(known.evaluation)
    if facts is not None:
        lines += ["", "## Intended use", "", known.intended_use or _intended_use(version)]
        lines += ["", "## Limits", "", *([known.limits] if known.limits else _limits(version, known))]
    lines += ["", "## Classes", "", _classes(version), ""]
    return "\n".join(lines)


def retitle_card(path: Path, name: str) -> None:
    """Give a card that came from elsewhere, if there is one, the name that the model has here; its text stays."""
    if not path.is_file():
        return
    text = path.read_bytes()[:MAX_BYTES].decode("utf-8", "replace")
    title, _, rest = text.partition("\n")
    kept = rest if title.startswith("# ") else text
    path.write_text(f"# {name}\n{kept}", encoding="utf-8")


def _summary(version: ModelVersion) -> Iterator[str]:
    manifest = version.manifest
    lineage = manifest.lineage
    known = (lineage.get(key) for key in ("base", "preset", "file"))
    source = next((text for text in known if text), lineage.get("kind", "unknown"))
    yield f"# {manifest.name}"
    yield ""
    yield f"- {'trained on' if lineage.get('base') else 'from'}: {source}, {manifest.created_at}"
    yield f"- {manifest.parameters:,} parameters, {manifest.classes} classes, ends in {manifest.output}"
    yield f"- input: {_input(version)}"
    yield f"- made with {', '.join(f'{name} {number}' for name, number in sorted(manifest.libraries.items()))}"
    yield from (f"- note: {note}" for note in lineage.get("notes", ()))


def _training(facts: TrainingFacts) -> Iterator[str]:
    pictures = ", ".join(f"{count:,} {split}" for split, count in facts.images.items() if count)
    yield from ("", "## Training", "")
    yield f"- run: {facts.run}, {facts.seconds:,.0f} s"
    yield f"- pictures: {pictures}"
    yield f"- recipe: {facts.recipe}"
    yield f"- epochs: {facts.epochs}; kept is the best, {facts.best_epoch} ({facts.monitor} {facts.best_value:.4g})"


def _evaluation(facts: EvaluationFacts) -> Iterator[str]:
    top5 = f", top-5 accuracy {facts.top5:.3f}" if len(facts.classes) > 5 else ""
    yield from ("", "## Evaluation", "")
    yield f"{facts.images:,} pictures ({facts.split}) that it was not trained on: accuracy {facts.accuracy:.3f}{top5}."
    rows = facts.classes
    if len(rows) > ROWS_SHOWN:
        rows = sorted(rows, key=lambda row: (row.f1, row.label))[:WEAKEST_SHOWN]
        yield f"The {len(rows)} weakest of {len(facts.classes)} classes:"
    yield from ("", "| class | pictures | precision | recall | F1 |", "|---|---:|---:|---:|---:|")
    for row in rows:
        figures = f"{row.precision:.3f} | {row.recall:.3f} | {row.f1:.3f}"
        yield f"| {_cell(row.label)} | {row.support:,} | {figures} |"


def _intended_use(version: ModelVersion) -> str:
    classes = version.manifest.classes
    return f"Pictures like those it was trained on, each showing one of the {classes} classes below."


def _limits(version: ModelVersion, facts: CardFacts) -> Iterator[str]:
    yield "- A picture that shows none of the classes gets one of them all the same; a low score is a hint, no proof."
    evaluation = facts.evaluation
    if evaluation is None:
        yield "- It has not been evaluated on pictures that it was not trained on."
        return
    weakest = min(evaluation.classes, key=lambda row: row.recall, default=None)
    if weakest is not None and weakest.recall < 1:
        yield f"- The class it misses most is {_cell(weakest.label)}: {weakest.recall:.0%} of its pictures are found."
    few = [row for row in evaluation.classes if row.support < FEW_PICTURES]
    if few:
        classes = version.manifest.classes
        yield f"- {len(few)} of {classes} classes were evaluated on fewer than {FEW_PICTURES} pictures."


def _input(version: ModelVersion) -> str:
    chosen = version.manifest.preprocessing
    crop = {
        "center": f"middle {chosen.crop_fraction:.1%} of the frame",
        "squash": "whole frame, squeezed",
        "pad": "whole frame, padded with black",
    }[chosen.crop]
    colour = "RGB" if chosen.channels == 3 else "grey"
    return f"{chosen.width}×{chosen.height} {colour}, {crop}, {chosen.interpolation}, pixels {chosen.scale}"


def _classes(version: ModelVersion) -> str:
    rest = len(version.labels) - LABELS_SHOWN
    return "; ".join(_cell(label) for label in version.labels[:LABELS_SHOWN]) + (
        f" and {rest} more" if rest > 0 else ""
    )


def _cell(label: str) -> str:
    """A label as a cell of a Markdown table, and no HTML."""
    text = " ".join(label.split()).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("\\", "\\\\").replace("|", "\\|")
