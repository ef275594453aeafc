"""Pictures for a server: by their paths where it sees them, else the files themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from api.client import Client
from api.client.files import Sending, why_not
from cli.desk import Pictures
from cli.errors import CommandError
from cli.orders import read
from cli.output import err, interactive, name_text, say
from worker.settings import Settings
from worker.sources.manifest import ManifestSource

if TYPE_CHECKING:
    from worker.sources.entry import Source

MAX_PATHS = 10_000  # that the server takes in one request
SHOWN = 5  # names of files that are not sent

Body = Mapping[str, Any]  # source, include and exclude of a submission


class Parcel:
    """What a submission says of its pictures; with `upload`, they are sent when it is asked."""

    def __init__(self, client: Client, chosen: Settings, pictures: Pictures) -> None:
        """Look at the paths. Raises SourceError, CommandError: nothing is sent then."""
        self._client = client
        self._pictures = pictures
        self._uploads = pictures.upload if pictures.upload is not None else not client.address.is_loopback
        sees = pictures.upload is not False  # paths that only the server sees are for it to check
        self._source: Source | None = read(chosen, pictures) if sees or list(pictures.paths) == ["-"] else None

    def body(self) -> dict[str, Any]:
        """The part of a submission that says which pictures. Raises ClientError, SourceError, OSError."""
        globs = {"include": list(self._pictures.include), "exclude": list(self._pictures.exclude)}
        named = {name: patterns for name, patterns in globs.items() if patterns}
        if not self._uploads and list(self._pictures.paths) == ["-"]:
            return {"source": {"files": self._listed()}}  # chosen by their names already
        if not self._uploads:
            return {"source": self._named(), **named}
        if self._source is None:
            raise CommandError("Expected pictures that can be read here, to be sent.")
        if isinstance(self._source, ManifestSource):
            upload_id, is_rewritten = self._send_manifest(self._source)
            return {"source": {"upload": upload_id}, **({} if is_rewritten else named)}
        return {"source": {"upload": self._send(_files(self._source), self._source.description)}, **named}

    def _named(self) -> Mapping[str, Any]:
        """The paths, for a server that sees them."""
        from worker.sources.archive import is_archive
        from worker.sources.manifest import is_manifest

        paths = list(self._pictures.paths)
        full = [str(Path(path).absolute()) for path in paths]
        if len(full) > 1:
            return {"paths": full}
        if Path(full[0]).is_dir():
            return {"folder": full[0]}
        kind = "manifest" if is_manifest(full[0]) else "archive" if is_archive(full[0]) else None
        return {kind: full[0]} if kind is not None else {"paths": full}

    def _listed(self) -> list[str]:
        """The files whose names came on standard input."""
        if self._source is None:
            return []
        root = os.fsencode(self._source.root)
        found = [_real_place(os.path.join(root, entry.path)) for entry in self._source]  # noqa: PTH118  bytes
        if len(found) > MAX_PATHS:
            raise CommandError(
                f"A server takes at most {MAX_PATHS:,} files at once, got {len(found):,}: name a folder or a manifest."
            )
        return found

    def _send_manifest(self, source: ManifestSource) -> tuple[str, bool]:
        """Send a manifest with what it names: the upload, and whether the names in it are new, chosen already."""
        from api.client.manifests import packed

        manifest = Path(self._pictures.paths[0]).absolute()
        with TemporaryDirectory(prefix="pixmill-") as folder:
            found = packed(source, manifest, Path(folder))
            if found.missing:
                some = ", ".join(name_text(name) for name in found.missing[:SHOWN])
                more = ", …" if found.missing[SHOWN:] else ""
                say(f"Not sent, since not to be read here as pictures: {len(found.missing):,}, {some}{more}.", "yellow")
            what = f"{source.description} and {len(found.files) - 1:,} files that it names"
            return self._send(found.files, what), found.is_rewritten

    def _send(self, files: Iterable[Sending], what: str) -> str:
        """The files, for a server elsewhere; returns the upload."""
        say(f"Sending the {what} to {self._client.address.url} …")
        if not interactive():
            return self._client.send(files)
        with err.status("Sending") as status:
            return self._client.send(files, lambda n: status.update(f"{n:,} files are sent"))


def _real_place(path: bytes) -> str:
    """The same file by a path that a server takes: without `..`."""
    folder, name = os.path.split(path)
    return os.fsdecode(os.path.join(os.path.realpath(folder), name))  # noqa: PTH118  bytes


def _files(source: Source) -> Iterator[Sending]:
    """Every file of a source once, an archive as it is, under its name below the source's root.

    What cannot be read here, and what a link would bring from outside of the folder, is left out, and named.
    """
    sent: set[bytes] = set()
    for entry in source:
        if entry.path not in sent:
            sent.add(entry.path)
            file = source.root / os.fsdecode(entry.path)
            why = why_not(file, source.root if source.confined else None)
            if why is None:
                yield Sending(file, entry.path.lstrip(b"/"))
            else:
                say(f"Not sent: {name_text(entry.path)} {why}.", "yellow")
