"""One file inside an archive, as a listing of the archive tells it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; folders are not listed.

    name: '/'-separated bytes as the archive has them. offset: finds it again (see Entry); None for a link or a device.
    """

    name: bytes
    size: int
    offset: int | None


class Listing(Protocol):
    """An open archive whose members stream past. Both methods raise BadArchive where the archive is damaged."""

    def __iter__(self) -> Iterator[Member]:
        """The members in the archive's own order."""
        ...

    def head(self, member: Member) -> bytes:
        """The member's first HEAD_BYTES bytes, or nothing where it cannot be read."""
        ...
