"""Brings a preset into the registry: fetched by its own library's code in a child, imported like any model file."""

from __future__ import annotations

import os
from pathlib import Path

from models.children import Child, Progress, quiet_keras
from models.imagenet import class_names
from models.importing import Arrival, register
from models.label_search import Candidate
from models.manifest import ModelVersion
from models.presets import Preset, find_preset
from models.references import check_name
from models.registry import Registry
from models.wishes import Overrides

STALL_S = 60.0  # without a new byte in the caches; then the hub counts as unreachable
START_S = 300.0  # for all but the download
SLOWEST_MB_PER_S = 0.1


def pull(
    name: str,
    registry: Registry,
    *,
    as_name: str | None = None,
    stall_s: float = STALL_S,
    progress: Progress | None = None,
) -> ModelVersion:
    """Fetch a preset and register it as the next version of a model of the same name (or `as_name`).

    KerasCV fetches through kagglehub's cache (`KAGGLEHUB_CACHE`), Keras applications and ImageNet's class names
    through Keras's (`KERAS_HOME`); what is in a cache needs no network. Raises UnknownModel for a name that is no
    preset's, HubUnreachable with what was tried and what to do without a network.
    """
    preset = find_preset(name)
    chosen = check_name(as_name or preset.name)
    with registry.staging() as folder:
        file = folder / f"{preset.name}.keras"
        child = Child("models.fetching", folder, {**os.environ, **quiet_keras()}, _timeout_s(preset))
        answer = child.ask({"preset": preset.name, "file": str(file), "stall_s": stall_s}, progress)
        labels = [Candidate("imagenet", class_names(), said=True)]
        lineage = {"kind": "preset", "preset": preset.name, "source": preset.source, "handle": answer["handle"]}
        arrival = Arrival(Path(file), chosen, labels, _said_by(preset, answer["scale"]), lineage)
        return register(arrival, registry, progress)


def _said_by(preset: Preset, scale: str) -> Overrides:
    """What a person would have to say at import; the catalogue says it for them."""
    given = preset.preprocessing
    facts = {"size": (given.width, given.height), "crop": given.crop, "crop_fraction": given.crop_fraction}
    return Overrides.from_json({**facts, "interpolation": given.interpolation, "scale": scale})


def _timeout_s(preset: Preset) -> float:
    return START_S + preset.download_mb / SLOWEST_MB_PER_S
