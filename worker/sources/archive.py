"""An archive of images, ZIP or TAR, listed without writing a member to disk."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH118, PTH123

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from worker.sources.cache import ArchiveCache, compression
from worker.sources.entry import Entry, not_empty, pass_over, printable
from worker.sources.errors import BadArchive, UnreadablePath
from worker.sources.member import Listing, Member
from worker.sources.rules import Rules, is_hidden, kind, looks_like_picture
from worker.sources.tar import TarListing
from worker.sources.zip import ZipListing

EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_FOREIGN_EXTENSIONS = (".7z", ".rar", ".tar.zst", ".tzst", ".tar.lz4", ".tar.lz", ".gz", ".xz", ".bz2", ".zst")
MAGIC_BYTES = 6  # that tell the kind
Kind = Literal["zip", "tar", "packed"]  # packed: a TAR file, compressed
_ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")


class ArchiveSource:
    """The images in one archive."""

    def __init__(self, path: Path, rules: Rules, cache: ArchiveCache) -> None:
        self.root = path.parent
        self.confined = False
        self.description = f"archive {printable(str(path))}"
        self.ignored: Counter[str] = Counter()
        self._name = os.fsencode(path.name)
        self._rules = rules
        self._cache = cache

    def __iter__(self) -> Iterator[Entry]:
        self.ignored.clear()
        entries = list_archive(os.fsencode(self.root), self._name, self._rules, self.ignored, self._cache)
        return not_empty(entries, self.description, self.ignored)


def is_archive(path: str) -> bool:
    """Whether a file is to be opened as an archive, by its extension."""
    return path.lower().endswith(EXTENSIONS)


def refuse_foreign(path: str) -> None:
    """Raise BadArchive for an archive, by its extension, of a kind that is not read here."""
    if not is_archive(path) and path.lower().endswith(_FOREIGN_EXTENSIONS):
        problem = f"expected one of {', '.join(EXTENSIONS)}. Unpack it, then name the folder."
        raise BadArchive(printable(path), problem)


def list_archive(root: bytes, name: bytes, rules: Rules, ignored: Counter[str], cache: ArchiveCache) -> Iterator[Entry]:
    """The images in the archive at root/name, as entries whose path is `name`. Raises BadArchive, UnreadablePath."""
    path = os.path.join(root, name)
    with _open(path) as file:
        facts = os.fstat(file.fileno())
        found = archive_kind(file.read(MAGIC_BYTES), path)
        if found == "packed":
            with cache.unpacked(path, facts).open("rb") as plain:
                yield from _entries(TarListing(plain, printable(path)), name, facts.st_mtime_ns, rules, ignored)
        else:
            listing = (ZipListing if found == "zip" else TarListing)(file, printable(path))
            yield from _entries(listing, name, facts.st_mtime_ns, rules, ignored)


def archive_kind(head: bytes, path: bytes) -> Kind:
    """How an archive is to be read, by its first MAGIC_BYTES, and by its name where they do not tell."""
    if compression(head):
        return "packed"
    return "zip" if head.startswith(_ZIP_MAGICS) or path.lower().endswith(b".zip") else "tar"


def _open(path: bytes) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UnreadablePath(printable(path), error) from error


def _entries(listing: Listing, name: bytes, mtime_ns: int, rules: Rules, ignored: Counter[str]) -> Iterator[Entry]:
    for member in listing:
        path = member.name.removeprefix(b"./")
        reason = _refusal(listing, member, path, rules)
        if reason:
            pass_over(ignored, reason)
            continue
        label, split = rules.marks(path[: path.rfind(b"/") + 1])
        size, offset = (None, None) if member.offset is None else (member.size, member.offset)
        yield Entry(name, size, mtime_ns, label, split, member=printable(member.name), offset=offset)


def _refusal(listing: Listing, member: Member, path: bytes, rules: Rules) -> str | None:
    """Why this member is no image to be listed, in the words of `ignored`; None if it is one."""
    if any(is_hidden(part) for part in path.split(b"/") if part != b".."):
        return "hidden"
    if not rules.recursive and b"/" in path:
        return "subfolder"
    if rules.excludes(path):
        return "excluded"
    picked = rules.picks(path)
    if picked is None:
        picked = looks_like_picture(listing.head(member))
    return None if picked else kind(path)
