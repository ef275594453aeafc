"""What a model version and a preset look like as JSON: one form for `--json` and for HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.manifest import ModelVersion
from models.presets import PRESETS
from models.training.catalogue import BACKBONES, NETWORKS

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is told of a model version. `input`: height, width, channels; `labels`: None where they were not asked for.

    `path` is where it lies on the machine that tells, empty where that is not told; `created_at` RFC 3339.
    """

    reference: str
    name: str
    version: int
    classes: int
    parameters: int
    input: tuple[int, int, int]
    crop: str
    interpolation: str
    scale: str
    output: str
    digest: str
    created_at: str
    lineage: Mapping[str, Any]
    path: str
    aliases: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, version: ModelVersion, aliases: Sequence[str] = (), *, with_labels: bool = False) -> ModelFacts:
        """The facts of a version in a registry, with the words that are its aliases."""
        facts = version.manifest
        wanted = facts.preprocessing
        return cls(
            reference=version.reference,
            name=facts.name,
            version=facts.version,
            classes=facts.classes,
            parameters=facts.parameters,
            input=(wanted.height, wanted.width, wanted.channels),
            crop=wanted.crop,
            interpolation=wanted.interpolation,
            scale=wanted.scale,
            output=facts.output,
            digest=facts.digest,
            created_at=facts.created_at,
            lineage=facts.lineage,
            path=str(version.path),
            aliases=tuple(aliases),
            labels=version.labels if with_labels else None,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ModelFacts:
        """Read back what `record` gave; what it does not know is passed over."""
        known = {name: record[name] for name in cls.__slots__ if name in record}
        height, width, channels = record["input"]
        labels = record.get("labels")
        aliases = tuple(record.get("aliases", ()))
        sizes = (int(height), int(width), int(channels))
        return cls(
            **{**known, "input": sizes, "aliases": aliases, "labels": tuple(labels) if labels is not None else None}
        )

    def record(self) -> Record:
        """These facts as JSON; the labels only where they are known."""
        found = {**asdict(self), "input": list(self.input), "aliases": list(self.aliases)}
        labels = found.pop("labels")
        return found if labels is None else {**found, "labels": list(labels)}


def model_record(version: ModelVersion, aliases: Sequence[str] = (), *, with_labels: bool = False) -> Record:
    """A version in a registry as JSON, with the words that are its aliases."""
    return ModelFacts.of(version, aliases, with_labels=with_labels).record()


def preset_records() -> Iterator[Record]:
    """Every preset as JSON; `kind` says what it is good for."""
    for preset in PRESETS.values():
        yield {
            "kind": "classifier",
            "name": preset.name,
            "source": preset.source,
            "description": preset.description,
            "parameters": preset.parameters,
            "classes": preset.classes,
            "download_mb": preset.download_mb,
        }
    for network in NETWORKS.values():
        size = [network.height, network.width, network.channels]
        yield {"kind": "network", "name": network.name, "description": network.description, "input": size}
    for backbone in BACKBONES.values():
        yield {
            "kind": "backbone",
            "name": backbone.name,
            "source": backbone.source,
            "description": backbone.description,
            "input": [backbone.preprocessing.height, backbone.preprocessing.width, 3],
            "weights": backbone.has_weights,
        }
