"""Takes model files from outside into the registry: checked, opened in a sandbox, labelled, probed and compiled."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.archive_check import check_archive
from models.bundles import CARD, unpack_bundle
from models.card import retitle_card, write_card
from models.children import Child, Progress, bare_environment
from models.errors import InvalidModel
from models.files import facts_of, plain_files
from models.label_search import Candidate, find_labels
from models.labels import load_labels
from models.manifest import Manifest, ModelVersion
from models.references import check_name, name_of_file
from models.registry import Registry
from models.wishes import Overrides

TIMEOUT_S = 600.0  # to open one file; MobileNetV2 takes 20 s on two cores, most of it TensorFlow's start


@dataclass(frozen=True, slots=True)
class Arrival:
    """A model file on its way into the registry, with all that is known about it."""

    file: Path
    name: str
    labels: Sequence[Candidate]
    overrides: Overrides
    lineage: Mapping[str, Any] = field(default_factory=dict)


def import_keras(
    file: Path,
    registry: Registry,
    *,
    name: str | None = None,
    labels: Path | None = None,
    overrides: Overrides | None = None,
    progress: Progress | None = None,
) -> ModelVersion:
    """Import a `.keras` file as the next version of `name` (by default the file's name, cleaned).

    `labels`: a file (`models.labels`), or the word `imagenet`; by default what is found in or beside the file. Notes
    for the person are in the version's `manifest.lineage["notes"]` and are also told to `progress`. Raises
    InvalidModel with what to do.
    """
    chosen = check_name(name) if name is not None else name_of_file(file)
    said = overrides or Overrides()
    said.check()
    facts = check_archive(file)
    candidates = find_labels(file, labels, facts.class_names)
    lineage = {"kind": "import", "file": file.name, "keras": facts.keras_version, **facts_of(file)}
    return register(Arrival(file, chosen, candidates, said, lineage), registry, progress)


def import_bundle(
    bundle: Path, registry: Registry, *, name: str | None = None, progress: Progress | None = None
) -> ModelVersion:
    """Import what `export` wrote (a .zip or a folder) as the next version of its model, or of `name`.

    The files stay as they are, byte for byte, so that the version keeps its digest. The hashes are compared, the
    model is checked and opened in the sandbox like any other, its answers are compared with the bundle's probe, and
    the compiled form is made anew.
    """
    with registry.staging() as folder:
        version = unpack_bundle(bundle, folder / "version")
        chosen = check_name(name or version.manifest.name)
        check_archive(version.path / "model.keras")
        request = {"work": "recheck", "source": str(version.path / "model.keras"), "version": str(version.path)}
        answer = _ask(request, folder, progress)
        lineage = {**version.manifest.lineage, "bundle": bundle.name, "exported_as": version.reference}
        draft = replace(version.manifest, name=chosen, lineage=lineage)
        # The bundle's own card stays: it may tell of an evaluation.
        retitle_card(folder / "version" / CARD, chosen)
        return _finish(folder / "version", draft, answer["notes"], registry, progress)


def import_any(
    file: Path,
    registry: Registry,
    *,
    name: str | None = None,
    labels: Path | None = None,
    overrides: Overrides | None = None,
    progress: Progress | None = None,
) -> ModelVersion:
    """`import_bundle` for an exported .zip or folder, `import_keras` for everything else."""
    check_any(file, name=name, labels=labels, overrides=overrides)
    if _is_exported(file):
        return import_bundle(file, registry, name=name, progress=progress)
    return import_keras(file, registry, name=name, labels=labels, overrides=overrides, progress=progress)


def check_any(file: Path, *, name: str | None, labels: Path | None, overrides: Overrides | None) -> None:
    """What `import_any` sees without Keras, before a file goes anywhere. Raises InvalidModel with what to do."""
    said = overrides or Overrides()
    if _is_exported(file) and (labels is not None or said.to_json()):
        raise InvalidModel(
            f"{file}: an exported model brings its labels and preprocessing; leave --labels, --size and the like away."
        )
    if name is not None:
        check_name(name)
    said.check()
    if not _is_exported(file):
        check_archive(file)


def _is_exported(file: Path) -> bool:
    return file.suffix.lower() == ".zip" or (file / "manifest.json").is_file()


def register(arrival: Arrival, registry: Registry, progress: Progress | None) -> ModelVersion:
    """Open a checked file in the sandbox and add what comes out to the registry."""
    with registry.staging() as folder:
        # A copy of our own: what was checked is what is opened, even where the file changes meanwhile.
        source = folder / arrival.file.name
        shutil.copyfile(arrival.file, source)
        check_archive(source)
        request = {
            "work": "prepare",
            "source": str(source),
            "name": arrival.name,
            "number": registry.next_number(arrival.name),
            "labels": [candidate.to_json() for candidate in arrival.labels],
            "overrides": arrival.overrides.to_json(),
        }
        answer = _ask(request, folder, progress)
        draft = Manifest.load(folder / "version" / "manifest.json")
        lineage = {**arrival.lineage, "overrides": dict(arrival.overrides.to_json())}
        draft = replace(draft, name=arrival.name, lineage=lineage)
        (folder / "version" / CARD).unlink(missing_ok=True)  # the child has no say in it
        return _finish(folder / "version", draft, answer["notes"], registry, progress)


def _ask(request: Mapping[str, Any], folder: Path, progress: Progress | None) -> dict[str, Any]:
    """Send the sandboxed child to work. `folder` is the only place where it may write."""
    home = folder / "home"
    home.mkdir()
    child = Child("models.sandbox", folder, bare_environment(home), TIMEOUT_S)
    answer = child.ask({**request, "folder": str(folder), "timeout_s": TIMEOUT_S}, progress)
    plain_files(folder / "version")  # before this process, which is not confined, follows a link that the child left
    return answer


def _finish(
    staged: Path, draft: Manifest, notes: Sequence[str], registry: Registry, progress: Progress | None
) -> ModelVersion:
    """Tell the notes, write the card where the version brings none, and add: it appears complete or not at all."""
    for note in notes:
        if progress is not None:
            progress(f"note: {note}")
    noted = replace(draft, lineage={**draft.lineage, "notes": list(notes)})
    if not (staged / CARD).is_file():
        write_card(ModelVersion(staged, noted, load_labels(staged / "labels.json")))
    return registry.add(staged, noted)
