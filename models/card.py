"""The model card: what a person reads about a version, as Markdown."""

from __future__ import annotations

from models.manifest import ModelVersion

LABELS_SHOWN = 20


def write_card(version: ModelVersion) -> None:
    """Write `card.md` into the version's folder."""
    manifest = version.manifest
    source = manifest.lineage.get("preset") or manifest.lineage.get("file") or manifest.lineage.get("kind", "unknown")
    lines = [
        f"# {manifest.name}",
        "",
        f"- from: {source}, {manifest.created_at}",
        f"- {manifest.parameters:,} parameters, {manifest.classes} classes, ends in {manifest.output}",
        f"- input: {_input(version)}",
        f"- made with {', '.join(f'{name} {number}' for name, number in sorted(manifest.libraries.items()))}",
    ]
    lines += [f"- note: {note}" for note in manifest.lineage.get("notes", ())]
    lines += ["", "## Classes", "", _classes(version), ""]
    (version.path / "card.md").write_text("\n".join(lines), encoding="utf-8")


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
    return "; ".join(version.labels[:LABELS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
