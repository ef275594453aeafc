"""The registry: every model version that this installation knows, as folders.

    <root>/<name>/<version>/{model.keras, labels.json, manifest.json, probe.npz, openvino/, card.md, report/}
    <root>/<name>/aliases.json        {"production": 3}
    <root>/<name>/.removed-3          so that the number 3 is never given again
    <root>/.staging/<token>/          where a version is made before it gets its number

A version appears by one rename and never changes afterwards, except for what is derived from it, can be made again
at any time, decides no answer, and is therefore not in the manifest: its compiled form, its card and its report.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from models.bundles import CARD, REPORT, export_bundle
from models.errors import InvalidModel, UnknownModel
from models.files import facts_of, plain_files, replace_text, sync, sync_tree
from models.labels import load_labels
from models.manifest import Manifest, ModelVersion
from models.presets import PRESETS
from models.references import LATEST, check_alias, check_name, split_reference

FOLDER_MODE, READ_ONLY, DERIVED_MODE = 0o755, 0o444, 0o644
DERIVED = ("openvino", CARD, REPORT)  # of a version, what may be made again
MANIFEST, LABELS = "manifest.json", "labels.json"
REQUIRED = ("model.keras", LABELS, "probe.npz")
STALE_STAGING_S = 24 * 3600.0  # what a killed import left is swept after a day
NUMBER = re.compile(r"(?:\.removed-)?([1-9][0-9]{0,8})")


@lru_cache(maxsize=64)  # a version never changes, and every job asks for one
def _read(path: Path, _: tuple[tuple[int, ...], ...]) -> ModelVersion:
    """A version, by the stamps of the two files that are read."""
    return ModelVersion(path, Manifest.load(path / MANIFEST), load_labels(path / LABELS))


def _stamp(path: Path) -> tuple[int, ...]:
    """What tells a file from another one in its place."""
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_ino, facts.st_size


class Registry:
    """All model versions below one folder. Safe for many processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, reference: str) -> ModelVersion:
        """The version that `birds` (the latest), `birds@3` or `birds@production` names. Raises UnknownModel."""
        name, selector = split_reference(reference)
        numbers = self._numbers(name)
        if not numbers:
            raise UnknownModel(name, self._near(name))
        if selector == LATEST:
            return self._open(name, numbers[-1])
        number = int(selector) if selector.isdecimal() else self.aliases(name).get(selector, 0)
        if number in numbers:
            return self._open(name, number)
        raise UnknownModel(reference, [f"{name}@{known}" for known in (*self.aliases(name), *numbers[-3:])])

    def aliases(self, name: str) -> Mapping[str, int]:
        """The aliases of one model, with the versions they point at."""
        path = self.root / name / "aliases.json"
        return dict(sorted(json.loads(path.read_text(encoding="utf-8")).items())) if path.is_file() else {}

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the registry's own disk, to make a version in; what `add` did not take is removed."""
        folder = self._aside()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, staging: Path, draft: Manifest) -> ModelVersion:
        """Make the folder `staging` the next version of `draft.name`; it is moved away.

        It must hold model.keras, labels.json and probe.npz. The number and the files' sizes and hashes are filled in
        here; what the draft says of them is ignored. Raises InvalidModel where a file is missing, or is anything but
        a plain file.
        """
        files = plain_files(staging)
        missing = [file for file in REQUIRED if staging / file not in files]
        if missing:
            raise InvalidModel(
                f"A model version needs {', '.join(REQUIRED)}; {', '.join(missing)} is missing in {staging}."
            )
        kept = [file for file in files if file.relative_to(staging).parts[0] not in (*DERIVED, MANIFEST)]
        facts = {str(file.relative_to(staging)): facts_of(file) for file in kept}
        _set_modes(staging, kept)

        name = check_name(draft.name)
        (self.root / name).mkdir(parents=True, exist_ok=True)
        near = Path(shutil.move(staging, self._aside()))  # a plain rename, unless staging is on another disk
        return self._publish(near, replace(draft, name=name, files=facts))

    def next_number(self, name: str) -> int:
        """The version that `add` would make next: one more than any that is or was there."""
        home = self.root / name
        taken = (NUMBER.fullmatch(entry.name) for entry in home.iterdir()) if home.is_dir() else ()
        return 1 + max((int(match[1]) for match in taken if match), default=0)

    def alias(self, reference: str, alias: str) -> ModelVersion:
        """Point `alias` at a version, away from where it pointed before."""
        word = check_alias(alias)
        version = self.get(reference)
        name = version.manifest.name
        with self._locked(name):
            self._save_aliases(name, {**self.aliases(name), word: version.manifest.version})
        return version

    def unalias(self, name: str, alias: str) -> None:
        """Take an alias away. Raises UnknownModel where there is none of that name."""
        name = self.get(name).manifest.name
        with self._locked(name):
            aliases = dict(self.aliases(name))
            if aliases.pop(alias.lower(), None) is None:
                raise UnknownModel(f"{name}@{alias}", [f"{name}@{known}" for known in aliases])
            self._save_aliases(name, aliases)

    def remove(self, reference: str, *, force: bool = False) -> ModelVersion:
        """Delete one version, for good: its number is never given again.

        Raises InvalidModel where an alias points at it, unless `force`.
        """
        version = self.get(reference)
        name, number = version.manifest.name, version.manifest.version
        with self._locked(name):
            pointing = [alias for alias, target in self.aliases(name).items() if target == number]
            if pointing and not force:
                raise InvalidModel(
                    f"{version.reference} is {' and '.join(f'{name}@{alias}' for alias in pointing)}; "
                    "point the alias elsewhere first (`pixmill models alias`), or use --force."
                )
            if pointing:
                self._save_aliases(name, {a: target for a, target in self.aliases(name).items() if target != number})
            (self.root / name / f".removed-{number}").touch()
            # One rename takes it out of sight; a reader that has files open keeps them.
            grave = version.path.rename(self._aside())
        shutil.rmtree(grave, ignore_errors=True)
        return version

    def attach(self, reference: str, report: Path | None, card: str) -> ModelVersion:
        """Put a copy of the folder `report`, and the text of the card, into a version; what was there is replaced.

        Without a report, the one that is there stays. Readers see the old card or the new one, never a half; of a
        report, for a moment, neither. Raises InvalidModel where the report holds anything but plain files.
        """
        version = self.get(reference)
        with self._locked(version.manifest.name):
            if report is not None:
                self._replace_report(version.path / REPORT, report)
            replace_text(version.path / CARD, card)
            (version.path / CARD).chmod(DERIVED_MODE)
        return version

    def verify(self, version: ModelVersion) -> None:
        """Compare every file with the manifest. Raises InvalidModel that names the files which differ."""
        # Versions of the first release list their card, which may have been rewritten since.
        listed = {name: facts for name, facts in version.manifest.files.items() if name not in DERIVED}
        wrong = [name for name, facts in listed.items() if not _is_as_said(version.path / name, facts)]
        if wrong:
            raise InvalidModel(
                f"{version.reference}: {', '.join(sorted(wrong))} in {version.path} is not what was registered; "
                "remove the version and import it again."
            )

    def export(self, reference: str, destination: Path) -> Path:
        """Write a version as a .zip or folder that `models.importing.import_bundle` takes in elsewhere."""
        version = self.get(reference)
        self.verify(version)
        return export_bundle(version, destination)

    def readable(self, name: str) -> Iterator[ModelVersion]:
        """The versions of one model that can be read, the newest first; damaged ones are passed over."""
        for number in reversed(self._numbers(name)):
            with suppress(InvalidModel):
                yield self._open(name, number)

    def list(self) -> Sequence[ModelVersion]:
        """Every version, by name and number."""
        return [self._open(name, number) for name in self.names() for number in self._numbers(name)]

    def names(self) -> Sequence[str]:
        """The names of the models that have a version, sorted."""
        return sorted(entry.name for entry in self._entries(self.root) if self.has(entry.name))

    def has(self, name: str) -> bool:
        """Whether there is a version of this model, readable or not."""
        return bool(self._numbers(name))

    def _replace_report(self, place: Path, report: Path) -> None:
        plain_files(report)
        with self.staging() as folder:
            made = Path(shutil.copytree(report, folder / "new"))
            _set_modes(made, ())
            sync_tree(made)
            if place.exists():
                place.rename(folder / "old")
            made.rename(place)
            sync(place.parent)

    def _numbers(self, name: str) -> Sequence[int]:
        """The version numbers of one model, ascending."""
        return sorted(int(entry.name) for entry in self._entries(self.root / name) if NUMBER.fullmatch(entry.name))

    def _entries(self, folder: Path) -> Iterator[Path]:
        """The visible folders in a folder, which may not exist."""
        if folder.is_dir():
            yield from (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))

    def _open(self, name: str, number: int) -> ModelVersion:
        path = self.root / name / str(number)
        try:
            return _read(path, (_stamp(path / MANIFEST), _stamp(path / LABELS)))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidModel(f"{name}@{number}: {path} cannot be read as a model version ({error}).") from error

    def _aside(self) -> Path:
        """A new name on the registry's own disk, out of readers' sight; what is forgotten there goes after a day."""
        parent = self.root / ".staging"
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        return parent / secrets.token_hex(8)

    def _publish(self, staging: Path, draft: Manifest) -> ModelVersion:
        """Give the folder the next free number by one rename; where another process took it first, the one after."""
        home = self.root / draft.name
        labels = load_labels(staging / LABELS)
        while True:
            number = self.next_number(draft.name)
            manifest = replace(draft, version=number)
            manifest.save(staging / MANIFEST)
            sync_tree(staging)
            path = home / str(number)
            try:
                staging.rename(path)
            except OSError:
                if path.exists():
                    continue
                raise
            sync(home)
            return ModelVersion(path, manifest, labels)

    def _near(self, name: str) -> Sequence[str]:
        """What the user may have meant: models that are here first, then presets that can be pulled."""
        here = get_close_matches(name, self.names(), n=2, cutoff=0.6)
        presets = get_close_matches(name, list(PRESETS), n=2, cutoff=0.6)
        return [
            *here,
            *(f"{preset} (a preset: `pixmill models pull {preset}`)" for preset in presets if preset not in here),
        ]

    def _save_aliases(self, name: str, aliases: Mapping[str, int]) -> None:
        replace_text(self.root / name / "aliases.json", json.dumps(aliases, indent=2, sort_keys=True) + "\n")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process at a time changes the aliases of a model."""
        with (self.root / name / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _set_modes(folder: Path, kept: Sequence[Path]) -> None:
    """What is kept is read-only; workers of other users may read; the sandbox wrote for its eyes only."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(FOLDER_MODE if path.is_dir() else READ_ONLY if path in kept else DERIVED_MODE)


def _is_as_said(path: Path, facts: Mapping[str, object]) -> bool:
    return path.is_file() and not path.is_symlink() and facts_of(path) == facts


def _sweep(staging: Path) -> None:
    """Remove what processes left that were killed long ago."""
    for entry in staging.iterdir():
        try:
            stale = time.time() - entry.stat().st_mtime > STALE_STAGING_S
        except FileNotFoundError:  # its owner was quicker
            continue
        if stale:
            shutil.rmtree(entry, ignore_errors=True)
