"""Models over HTTP: versions, aliases, presets, and what may be said at an import."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import Field

from api.schemas.text import Digits, Input, Output, Plain

NAME = r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-])?$"  # no model has a name with a slash, a colon or an @
Name = Annotated[str, Path(min_length=1, max_length=64, pattern=NAME)]
Selector = Annotated[
    str, Path(min_length=1, max_length=64, pattern=NAME, description="A version's number, an alias, or `latest`.")
]
# A word: what reads like a version's number is none.
ALIAS = r"^(?:[A-Za-z]|[0-9]+[A-Za-z_-])(?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?$"
Alias = Annotated[str, Path(min_length=1, max_length=64, pattern=ALIAS)]
FileName = Annotated[
    str,
    Query(
        min_length=5,
        max_length=128,
        pattern=r"^[^/\\\x00-\x1f]+\.(?:keras|zip)$",
        description="What the file is called: its ending tells a .keras file from an exported .zip.",
    ),
    Plain,
]
NewName = Annotated[str, Query(min_length=1, max_length=64, pattern=NAME, description="The model's name here.")]
# An address has room for some hundred names; a model with more comes as a bundle, which brings its own.
Label = Annotated[str, Field(min_length=1, max_length=100), Plain]
Labels = Annotated[
    tuple[Label, ...],
    Query(max_length=256, description="The class names in the order of its output, one `label=` each."),
]
Size = Annotated[
    str, Query(pattern=r"^[1-9][0-9]{0,3}(?:x[1-9][0-9]{0,3})?$", description="Input size, `224` or `320x240`.")
]
Fraction = Annotated[float, Query(gt=0, le=1, description="Part of the short side that a center crop takes.")]


class ModelVersion(Output):
    """One version of a model. `input` is height, width, channels; `path` lies on the server."""

    reference: str
    name: str
    version: int
    classes: int
    parameters: int
    input: list[int]
    crop: str
    interpolation: str
    scale: str
    output: str
    digest: str
    created_at: str
    lineage: dict[str, Any]
    path: str
    aliases: list[str]


class LabelledVersion(ModelVersion):
    """One version, with its class names in the order of its output."""

    labels: list[str]


class NewVersion(ModelVersion):
    """A version that was just made, with what the importer remarked."""

    notes: list[str]


class AliasedVersion(ModelVersion):
    """A version, and the alias that points at it now."""

    alias: str


class ModelVersions(Output):
    """A page of model versions, by name and number."""

    items: list[ModelVersion]
    next: str | None


class Model(Output):
    """All versions of one model, and its aliases."""

    name: str
    latest: int
    aliases: dict[str, int]
    versions: list[ModelVersion]


class Preset(Output):
    """What a training can begin with, or `POST /presets/pull` can fetch; null where it does not apply to the kind."""

    kind: Literal["classifier", "network", "backbone"]
    name: str
    description: str
    source: str | None = None
    parameters: int | None = None
    classes: int | None = None
    download_mb: int | None = None
    input: list[int] | None = None
    weights: bool | None = None


class Presets(Output):
    """Every preset."""

    items: list[Preset]
    next: None = None


class AliasTarget(Input):
    """The version that an alias is to point at."""

    version: Annotated[int, Field(ge=1, le=999_999_999), Digits]


class Pull(Input):
    """Which preset to fetch, and what to call it; by default as it is called there."""

    preset: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")]
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=NAME)] | None = None
