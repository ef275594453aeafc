"""Takes models into the registry in a process of its own: `python -P -m worker.intake`, request on standard input.

What comes from outside is opened in a sandbox by `models.importing` either way; this process is between that and the
API, so that the memory and the crashes of an import are not the API's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.children import Progress, answer_with
from models.registry import Registry


def work(request: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
    """Import a file, or fetch a preset.

    request: `registry` (its folder), `name` (or None), and `preset`, or `file`, `labels` (the word imagenet or None)
    and `overrides`. Answers the `reference` of the new version and the importer's `notes`. Raises ModelError.
    """
    registry = Registry(Path(request["registry"]))
    version = _pull(request, registry, progress) if "preset" in request else _import(request, registry, progress)
    return {"reference": version.reference, "notes": list(version.manifest.lineage.get("notes", ()))}


def _pull(request: Mapping[str, Any], registry: Registry, progress: Progress) -> Any:
    from models.pulling import pull

    return pull(request["preset"], registry, as_name=request["name"], progress=progress)


def _import(request: Mapping[str, Any], registry: Registry, progress: Progress) -> Any:
    from models.importing import import_any
    from models.wishes import Overrides

    labels = Path(request["labels"]) if request["labels"] else None
    overrides = Overrides.from_json(request["overrides"])
    return import_any(
        Path(request["file"]), registry, name=request["name"], labels=labels, overrides=overrides, progress=progress
    )


if __name__ == "__main__":
    answer_with(work)
