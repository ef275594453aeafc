"""Receiving a file: streamed aside, counted against every limit, then put in its place by one rename."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from api.access import Caller
from api.context import Context
from api.problems import Problem
from api.uploads.folders import check_room, files_folder, make_folders, parts_folder
from store import uploads

MOST_FILES = 100_000  # of one upload
PORTION = 1 << 20  # bytes written at once
LOOK_EVERY = 64  # portions between two looks at the disk


class Arriving:
    """Bytes on their way in this process, by owner: uploads side by side may not exceed a quota together."""

    def __init__(self, _: Context) -> None:
        self._bytes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, owner: str, size: int) -> int:
        """Count more (or, negative, fewer) bytes; returns how many there are."""
        with self._lock:
            self._bytes[owner] += size
            return self._bytes[owner]


class Reception:
    """One file that arrives for an upload."""

    def __init__(self, context: Context, caller: Caller, upload: uploads.UploadRow, name: str) -> None:
        """`name` is clean. Opens nothing."""
        self._context, self._caller, self._upload = context, caller, upload
        self._target = files_folder(context.settings, upload.id) / name
        self._part = parts_folder(context.settings, upload.id) / secrets.token_hex(16)
        self._arriving = context.part(Arriving)
        self._lies = 0  # bytes of the owner that lie here already
        self.size = 0

    async def receive(self, request: Request) -> bool:
        """Take the request's body; True where a file of this name was replaced. Raises Problem, StoreError, OSError."""
        declared = int(request.headers.get("content-length") or 0)
        file = await run_in_threadpool(self._begin, declared)
        last = b""
        try:
            async for portion in _portions(request):
                if last:
                    await run_in_threadpool(self._write, file, last)
                last = portion
            return await run_in_threadpool(self._end, file, last)  # a small file is done in this one step
        except BaseException as error:
            await run_in_threadpool(self._drop, file)
            if isinstance(error, ClientDisconnect):
                raise Problem("bad-request", "The connection ended before the file did.") from None
            raise
        finally:
            self._arriving.take(self._upload.owner, -self.size)

    def _begin(self, declared: int) -> BinaryIO:
        if self._upload.files >= MOST_FILES:
            raise Problem("too-large", f"An upload takes at most {MOST_FILES:,} files; send an archive instead.")
        self._lies = uploads.used_bytes(self._context.database, self._upload.owner)
        self._check_quota(declared)
        check_room(self._context.settings, declared)
        make_folders(self._context.settings, self._upload.id)
        return self._part.open("xb")

    def _write(self, file: BinaryIO, portion: bytes) -> None:
        together = self._arriving.take(self._upload.owner, len(portion))
        self.size += len(portion)  # before anything is raised: `receive` gives back what `size` says
        self._check_quota(together)
        if self.size // PORTION % LOOK_EVERY == 0:
            check_room(self._context.settings)
        file.write(portion)

    def _end(self, file: BinaryIO, last: bytes) -> bool:
        with file:
            if last:
                self._write(file, last)
        return self._finish()

    def _drop(self, file: BinaryIO) -> None:
        """Leave nothing of a file that did not arrive."""
        file.close()
        self._part.unlink(missing_ok=True)

    def _check_quota(self, more: int) -> None:
        most = self._caller.limits.upload_bytes
        if most is not None and self._lies + more > most:
            raise Problem(
                "upload-full",
                f"At most {most:,} bytes of uploads may lie here, and {self._lies:,} do; this would be more.",
                retry_after=60,
            )

    def _finish(self) -> bool:
        """Put the file in its place, and count it."""
        if self.size == 0:
            raise Problem(
                "contradictory", "The request names a file, and its body is empty. Send the bytes of the file."
            )
        before = self._before()
        is_new, more = before is None, self.size - (before or 0)
        counted = uploads.add(self._context.database, self._upload.id, files=int(is_new), size_bytes=more)
        if counted is None:
            raise Problem("conflict", f"Upload {self._upload.id} takes no more files: a job reads it, or it is gone.")
        try:
            most, self._lies = self._caller.limits.upload_bytes, counted
            if most is not None and self._lies > most:  # two of several processes were each within the limit
                self._check_quota(0)
            self._place()
        except BaseException:
            uploads.add(self._context.database, self._upload.id, files=-int(is_new), size_bytes=-more)
            raise
        return not is_new

    def _before(self) -> int | None:
        """The size of the file that is replaced."""
        try:
            return self._target.lstat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _place(self) -> None:
        try:
            _make_parents(self._target, files_folder(self._context.settings, self._upload.id))
            self._part.replace(self._target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise Problem("conflict", "A file of the upload has the name of a folder in it, or the reverse.") from error


def _make_parents(target: Path, top: Path) -> None:
    """The folders between; one that is there must be a folder."""
    if target.parent != top:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if target.is_dir():
        raise IsADirectoryError(target)


async def _portions(request: Request) -> AsyncIterator[bytes]:
    """The body in portions that are worth a write."""
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) >= PORTION:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
