"""Model versions on the move: written as a .zip or a folder, read back with every name, size and hash checked."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import get_args

from models.errors import InvalidModel
from models.files import BROKEN_ZIP, facts_of, plain_files
from models.labels import load_labels
from models.manifest import Crop, Interpolation, Manifest, ModelVersion, Output, Scale

CARD, REPORT = "card.md", "report"  # for people; they may be rewritten, so no manifest vouches for them
KEPT = ("manifest.json", "model.keras", "labels.json", "probe.npz", CARD)
REQUIRED = frozenset(KEPT) - {CARD}
MAX_BYTES = 16 * 2**30  # unpacked; the largest Keras application has 1.4 GiB
MAX_NUMBER = 2**40  # in a manifest: of parameters, classes, pixels
_FIELDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "created_at"), str),
    **dict.fromkeys(("version", "classes", "parameters"), int),
    **dict.fromkeys(("files", "lineage", "libraries"), dict),
}
_SIZES = ("width", "height", "channels")
_WORDS: Mapping[type, str] = {str: "text", int: "a whole number", dict: "an object"}
MAX_EXPANSION = 100  # a file's size over its size in the zip; labels.json reaches four


def export_bundle(version: ModelVersion, destination: Path, *, with_report: bool = True) -> Path:
    """Write a version as a .zip, or as a folder where the name does not end in .zip; overwrites nothing.

    The card goes along, and the report, which shows pictures, `with_report`. The compiled form is left out: it is made
    anew, for the machine that imports.
    """
    files = [version.path / name for name in KEPT if (version.path / name).is_file()]
    if with_report and (version.path / REPORT).is_dir():
        files += plain_files(version.path / REPORT)
    members = {str(file.relative_to(version.path)): file for file in files}
    if destination.exists():
        raise InvalidModel(f"{destination} exists; choose another name, or remove it first.")
    # A name that says "part" until all of it is there.
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        if destination.suffix.lower() == ".zip":
            _zip(members, part)
        else:
            for name, file in members.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, part / name)
        part.rename(destination)
    finally:
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    return destination


def unpack_bundle(bundle: Path, folder: Path) -> ModelVersion:
    """Unpack an exported version into a new folder.

    Its report stays where it is: pages that nothing vouches for are not to be shown as ours. Raises InvalidModel
    unless the rest is exactly what its manifest says.
    """
    folder.mkdir()
    if bundle.is_dir():
        _copy_folder(bundle, folder)
    else:
        _unzip(bundle, folder)
    missing = sorted(name for name in REQUIRED if not (folder / name).is_file())
    if missing:
        raise InvalidModel(
            f"{bundle}: an exported model holds {', '.join(sorted(REQUIRED))}; {', '.join(missing)} is missing."
        )
    try:
        manifest = Manifest.load(folder / "manifest.json")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidModel(f"{bundle}: its manifest.json cannot be read ({error}).") from error
    _check_types(bundle, manifest)
    _check_choices(bundle, manifest)
    _check_hashes(bundle, folder, manifest)
    return ModelVersion(folder, manifest, load_labels(folder / "labels.json"))


def _zip(members: Mapping[str, Path], target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, file in members.items():
            archive.write(file, name)


def _copy_folder(bundle: Path, folder: Path) -> None:
    for name in KEPT:
        file = bundle / name
        if file.is_file() and not file.is_symlink():
            shutil.copyfile(file, folder / name)


def _unzip(bundle: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = [member for member in archive.infolist() if PurePosixPath(member.filename).parts[:1] != (REPORT,)]
            _check_members(bundle, members)
            for member in members:
                # Our own join of a checked name, and a reader that stops at the declared size: nothing is left to the
                # archive.
                with archive.open(member) as source, (folder / member.filename).open("xb") as target:
                    shutil.copyfileobj(source, target)
    except BROKEN_ZIP as error:
        raise InvalidModel(f"{bundle}: not a readable .zip ({error}); export and copy it again.") from error


def _check_members(bundle: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    strange = next((name for name in names if name not in KEPT or PurePosixPath(name).name != name), None)
    if strange is not None or len(set(names)) != len(names):
        shown = f"{strange!r}" if strange is not None else "a file twice"
        raise InvalidModel(f"{bundle}: an exported model holds {', '.join(KEPT)} only; this zip holds {shown[:200]}.")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise InvalidModel(f"{bundle}: would unpack to more than {MAX_BYTES} bytes.")
    for member in members:
        if member.file_size > MAX_EXPANSION * max(member.compress_size, 2**10):
            raise InvalidModel(
                f"{bundle}: {member.filename} would grow from {member.compress_size} to {member.file_size} bytes; a "
                "zip bomb?"
            )


def _check_types(bundle: Path, manifest: Manifest) -> None:
    """JSON has types of its own: whatever reads a manifest may rely on ours."""
    fields = {name: getattr(manifest, name) for name in _FIELDS}
    sizes = {name: getattr(manifest.preprocessing, name) for name in _SIZES}
    for name, value in {**fields, **sizes}.items():
        expected = _FIELDS.get(name, int)
        if not isinstance(value, expected) or (isinstance(value, int) and not 0 <= value <= MAX_NUMBER):
            raise InvalidModel(
                f"{bundle}: its manifest.json says {name} {str(value)[:80]!r}; expected {_WORDS[expected]}."
            )


def _check_choices(bundle: Path, manifest: Manifest) -> None:
    """A manifest is only JSON: its words must be those that the pipeline knows."""
    chosen = manifest.preprocessing
    known = (
        (manifest.output, Output), (chosen.crop, Crop), (chosen.interpolation, Interpolation), (chosen.scale, Scale),
    )  # fmt: skip
    unknown = next((word for word, words in known if word not in get_args(words)), None)
    if unknown is not None:
        raise InvalidModel(
            f"{bundle}: its manifest.json says {unknown!r}, which this version of Pixmill does not know."
        )
    if not isinstance(chosen.crop_fraction, int | float) or not 0 < chosen.crop_fraction <= 1:
        raise InvalidModel(f"{bundle}: its manifest.json says crop_fraction {chosen.crop_fraction!r}; expected 0 to 1.")


def _check_hashes(bundle: Path, folder: Path, manifest: Manifest) -> None:
    present = {file.name for file in folder.iterdir()} - {"manifest.json", CARD}
    if not present <= set(manifest.files):
        raise InvalidModel(f"{bundle}: its manifest names {sorted(manifest.files)}, it holds {sorted(present)}.")
    changed = sorted(name for name in present if facts_of(folder / name) != manifest.files[name])
    if changed:
        raise InvalidModel(
            f"{bundle}: {', '.join(changed)} was changed or damaged after the export; export and copy it again."
        )
