"""Makes a model version of a trained Keras model: its files, its probe, its compiled form and its card.

Imports Keras on TensorFlow at its top, so only the trainer's process imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from models.card import CardFacts, TrainingFacts, write_card
from models.conversion import convert
from models.errors import InvalidModel
from models.labels import check_count
from models.manifest import Manifest, ModelVersion, Preprocessing
from models.opening import (
    answers,
    draft_manifest,
    find_classes,
    find_input,
    find_output,
    probabilities,
    write_version,
)
from models.probe import make_probe
from models.training.grafting import Graft, graft
from models.wishes import Overrides


@dataclass(frozen=True, slots=True)
class Trained:
    """What is known of a trained model beside its weights. `labels` in output order; `lineage` as JSON knows it."""

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    lineage: Mapping[str, Any] = field(default_factory=dict)
    facts: TrainingFacts | None = None


def finish(model: Any, trained: Trained, folder: Path, head: Graft | None = None) -> Manifest:
    """Fill `folder` with what `Registry.add` takes, and answer the draft to give it.

    model: from pictures float32 [N, H, W, C] in the range that `trained.preprocessing` says to scores [N, classes].
    head: where only a last dense layer on a registered backbone was trained, so that the compiled form need not be
    converted; where it does not answer as Keras does it is converted all the same, and a note in the lineage says so.
    A model that OpenVINO cannot express is left without a compiled form, with a note: Keras will serve it.
    Raises InvalidModel where model, labels and preprocessing do not fit, or the model answers NaN.
    """
    wanted = trained.preprocessing
    _check(model, trained)
    # A model around the same layers, without the optimizer: its state is for the checkpoint, not for who serves.
    bare = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    images = make_probe(wanted)
    raw = answers(bare, images, wanted.scale)
    output = find_output(bare, raw)
    draft = replace(draft_manifest(bare, trained.name, wanted, output), lineage=dict(trained.lineage))
    version = write_version(folder, bare, draft, trained.labels, (images, probabilities(raw, output)))

    notes = [*trained.lineage.get("notes", ()), *_compile(version, head)]
    draft = replace(draft, lineage={**trained.lineage, "notes": notes})
    draft.save(folder / "manifest.json")
    write_card(replace(version, manifest=draft), CardFacts(training=trained.facts))
    return draft


def _check(model: Any, trained: Trained) -> None:
    wanted = trained.preprocessing
    said = (wanted.width, wanted.height, wanted.channels)
    found = find_input(model, Overrides(size=said[:2]))
    if found != said:
        raise InvalidModel(f"expected a model for pictures of width, height, channels {said}; it takes {found}.")
    check_count(trained.labels, find_classes(model), "the training")


def _compile(version: ModelVersion, head: Graft | None) -> Iterator[str]:
    """Make the compiled form, the quick way where there is one; yields notes for a person."""
    if head is not None:
        try:
            graft(head, version)
        except InvalidModel as error:
            yield f"converted, as the head could not be put on the compiled form of {head.base.reference}: {error}"
        else:
            return
    try:
        convert(version)
    except InvalidModel as error:
        yield f"no compiled form: {error}"
