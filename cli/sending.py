"""Pictures for a server: by their paths where it sees them, else the files themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.client import Client
from api.client.files import Sending, why_not
from cli.desk import Pictures
from cli.errors import CommandError
from cli.orders import read
from cli.output import err, interactive, name_text, say
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.sources.entry import Source

MAX_PATHS = 10_000  # that the server takes in one request

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
        if self._uploads:
            self._refuse_manifest()

    def body(self) -> dict[str, Any]:
        """The part of a submission that says which pictures. Raises ClientError, OSError."""
        globs = {"include": list(self._pictures.include), "exclude": list(self._pictures.exclude)}
        named = {name: patterns for name, patterns in globs.items() if patterns}
        return {"source": self._send() if self._uploads else self._named(), **named}

    def _refuse_manifest(self) -> None:
        from worker.sources.manifest import is_manifest

        if any(is_manifest(path) for path in self._pictures.paths):
            raise CommandError(
                "A manifest names files by their paths, and they are not sent with it. Name their folder; or, where "
                "the server sees the same paths, --no-upload."
            )

    def _named(self) -> Mapping[str, Any]:
        """The paths, for a server that sees them."""
        from worker.sources.archive import is_archive
        from worker.sources.manifest import is_manifest

        paths = list(self._pictures.paths)
        if paths == ["-"] and self._source is not None:
            return {"paths": _listed(self._source)}
        full = [str(Path(path).absolute()) for path in paths]
        if len(full) > 1:
            return {"paths": full}
        if Path(full[0]).is_dir():
            return {"folder": full[0]}
        kind = "manifest" if is_manifest(full[0]) else "archive" if is_archive(full[0]) else None
        return {kind: full[0]} if kind is not None else {"paths": full}

    def _send(self) -> Mapping[str, Any]:
        """The files, for a server elsewhere; returns where they are then."""
        if self._source is None:
            raise CommandError("Expected pictures that can be read here, to be sent.")
        say(f"Sending the {self._source.description} to {self._client.address.url} …")
        if not interactive():
            return {"upload": self._client.send(_files(self._source))}
        with err.status("Sending") as status:
            return {"upload": self._client.send(_files(self._source), lambda n: status.update(f"{n:,} files are sent"))}


def _listed(source: Source) -> list[str]:
    found = [os.fsdecode(os.path.join(os.fsencode(source.root), entry.path)) for entry in source]  # noqa: PTH118  bytes
    if len(found) > MAX_PATHS:
        raise CommandError(
            f"A server takes at most {MAX_PATHS:,} paths at once, got {len(found):,}: name their folder or a manifest."
        )
    return found


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
