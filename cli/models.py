"""`pixmill models`: the registry of classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import CommandError
from cli.opening import open_desk
from cli.output import emit_json, emit_table, out, say

if TYPE_CHECKING:
    from models.records import ModelFacts

app = typer.Typer(no_args_is_help=True, help="Models: import, fetch, list, name, export.")

Reference = Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@VERSION or NAME@ALIAS.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List every version of every model."""
    with open_desk() as desk:
        versions = desk.models()
    if json:
        for version in versions:
            emit_json(version.record())
        return
    if not versions:
        say("No models yet. `pixmill models import FILE.keras`, `pixmill models pull NAME`, or `pixmill demo`.")
        return
    emit_table(
        ("model", "also called", "classes", "input", "parameters", "from"),
        (
            (
                *(version.reference, ", ".join(version.aliases), version.classes),
                *("×".join(map(str, version.input)), version.parameters, str(version.lineage.get("kind", ""))),
            )
            for version in versions
        ),
    )


@app.command()
def show(model: Reference, json: Json = False) -> None:
    """Show one version: preprocessing, lineage, labels."""
    with open_desk() as desk:
        version = desk.model(model)
    record = version.record()
    if json:
        emit_json(record)
        return
    labels = record.pop("labels")
    emit_table(("", ""), ((name, str(value)) for name, value in record.items()))
    say(f"labels: {' · '.join(labels[:12])}{' · …' if len(labels) > 12 else ''}", to=out)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .keras file, or a .zip that `models export` wrote.")],
    name: Annotated[str | None, typer.Option(help="Its name here; the file's name, cleaned, by default.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names: .txt, .json or .csv; or the word imagenet.")] = None,
    size: Annotated[str | None, typer.Option(help="Input size, 224 or 320x240; the model's own by default.")] = None,
    crop: Annotated[str | None, typer.Option(help="center, squash or pad.")] = None,
    crop_fraction: Annotated[
        float | None, typer.Option(help="Part of the short side that a center crop takes.")
    ] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic, lanczos or area.")] = None,
    scale: Annotated[str | None, typer.Option(help="The pixel range it was trained on: 0-255, 0-1 or -1-1.")] = None,
    output: Annotated[str | None, typer.Option(help="probabilities or logits; detected by default.")] = None,
    json: Json = False,
) -> None:
    """Import a model: checked, opened in a sandbox, compiled, and compared with Keras before it may serve."""
    from models.wishes import Overrides

    wishes = {
        "size": _size(size) if size else None,
        "crop": crop,
        "crop_fraction": crop_fraction,
        "interpolation": interpolation,
        "scale": scale,
        "output": output,
    }
    overrides = Overrides.from_json({key: value for key, value in wishes.items() if value is not None})
    with open_desk() as desk:
        version = desk.import_model(file, name=name, labels=labels, overrides=overrides, progress=say)
    _added(version, json=json)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not width.isdecimal() or not (height or width).isdecimal():
        raise CommandError(f"--size: expected 224 or 320x240 (width x height), got {text!r}.")
    return int(width), int(height or width)


def _added(version: ModelFacts, *, json: bool) -> None:
    if json:
        emit_json(version.record())
    say(f"{version.reference} is ready: {version.classes:,} classes.")
    say(f"Next: `pixmill classify FOLDER --model {version.name}`")


@app.command()
def presets(json: Json = False) -> None:
    """List the pretrained classifiers that `models pull` fetches, and the architectures for `finetune --preset`."""
    from models.presets import PRESETS
    from models.records import preset_records
    from models.training.catalogue import BACKBONES, NETWORKS

    if json:
        for record in preset_records():
            emit_json(record)
        return
    say("Pretrained classifiers, for `pixmill models pull` and `pixmill finetune --base`:", "bold", to=out)
    emit_table(
        ("preset", "MB", "classes", "what"),
        ((p.name, p.download_mb, p.classes, p.description) for p in PRESETS.values()),
    )
    say("\nSmall networks, for `pixmill finetune --preset`, trained from nothing:", "bold", to=out)
    emit_table(
        ("preset", "input", "what"),
        ((n.name, f"{n.height}×{n.width}×{n.channels}", n.description) for n in NETWORKS.values()),
    )
    say("\nBackbones, for `pixmill finetune --preset` too, as are all keras_… above:", "bold", to=out)
    emit_table(
        ("preset", "input", "begins with", "what"),
        (
            (
                backbone.name,
                f"{backbone.preprocessing.height}×{backbone.preprocessing.width}×3",
                "ImageNet or nothing" if backbone.has_weights else "nothing",
                backbone.description,
            )
            for backbone in BACKBONES.values()
            if backbone.name not in PRESETS
        ),
    )


@app.command()
def pull(
    preset: Annotated[str, typer.Argument(help="A name that `models presets` lists.")],
    name: Annotated[str | None, typer.Option(help="Its name here; the preset's by default.")] = None,
    json: Json = False,
) -> None:
    """Fetch a pretrained classifier from its hub."""
    with open_desk() as desk:
        version = desk.pull_model(preset, name=name, progress=say)
    _added(version, json=json)


@app.command()
def export(
    model: Reference,
    dest: Annotated[Path, typer.Argument(help="A .zip file, or a folder to make.")],
    json: Json = False,
) -> None:
    """Write one version to a file that `models import` takes on another machine."""
    with open_desk() as desk:
        written = desk.export_model(model, dest)
    if json:
        emit_json({"reference": model, "path": str(written)})
    say(f"{model} is written to {written}")


@app.command()
def alias(
    model: Reference, name: Annotated[str, typer.Argument(help="For example production.")], json: Json = False
) -> None:
    """Give a version a second name; jobs that are running keep the version they started with."""
    with open_desk() as desk:
        version = desk.alias_model(model, name)
    if json:
        emit_json({"alias": f"{version.name}@{name}", **version.record()})
    say(f"{version.name}@{name} is {version.reference} now.")


@app.command()
def rm(
    model: Reference,
    force: Annotated[bool, typer.Option("--force", help="Even if an alias points at it.")] = False,
    json: Json = False,
) -> None:
    """Remove a version; results that it gave stay."""
    with open_desk() as desk:
        removed = desk.remove_model(model, force=force)
    if json:
        emit_json({"reference": removed, "removed": True})
    say(f"{removed} is removed.")
