"""Where uploads lie, and how they go: uploads/<id>/files/… is what was sent, uploads/<id>/parts/… what is arriving."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from api.context import Context
from api.problems import Problem
from store import uploads
from worker.settings import Settings

log = logging.getLogger(__name__)

LEAST_FREE = 256 << 20  # bytes that uploads leave on the disk: the database writes there too


def upload_folder(settings: Settings, upload_id: str) -> Path:
    """The folder of one upload."""
    return settings.uploads_folder / upload_id


def files_folder(settings: Settings, upload_id: str) -> Path:
    """What was sent, under the names it was sent with."""
    return upload_folder(settings, upload_id) / "files"


def parts_folder(settings: Settings, upload_id: str) -> Path:
    """What is arriving, under names of its own."""
    return upload_folder(settings, upload_id) / "parts"


def make_folders(settings: Settings, upload_id: str) -> None:
    """Make the folders of an upload, for this user alone: pictures may be private."""
    settings.uploads_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in (upload_folder(settings, upload_id), files_folder(settings, upload_id)):
        folder.mkdir(exist_ok=True, mode=0o700)
    parts_folder(settings, upload_id).mkdir(exist_ok=True, mode=0o700)


def check_room(settings: Settings, more: int = 0) -> None:
    """Raise Problem 507 where `more` bytes would fill the disk."""
    settings.uploads_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if shutil.disk_usage(settings.uploads_folder).free - more < LEAST_FREE:
        raise Problem("disk-full", "Expected room for the upload on the server's disk; it is nearly full.")


def remove_upload(context: Context, upload_id: str, unused_s: float | None = None) -> bool:
    """Delete the files and forget the upload; False where there is none, or where it is in use (uploads.retire)."""
    if not uploads.retire(context.database, upload_id, unused_s):
        return False
    with suppress(FileNotFoundError):
        shutil.rmtree(upload_folder(context.settings, upload_id))
    return uploads.remove(context.database, upload_id)


def remove_expired(context: Context) -> int:
    """Delete uploads that nobody used for long; returns how many."""
    removed, keep_s = 0, context.settings.upload_keep_h * 3600
    for row in uploads.expired(context.database, keep_s):
        if remove_upload(context, row.id, keep_s):  # nobody has used it since it was listed
            log.info("upload %s expired", row.id)
            removed += 1
    return removed
