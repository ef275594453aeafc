"""Whether a disk has room, and what is said where it has none."""

import os
from pathlib import Path

LEAST_BYTES = 1 << 20  # with less than this a disk is called full: one commit takes about as much


def has_room(path: str | Path) -> bool:
    """Whether something can be written beside a file, as far as the system tells."""
    folder = Path(path)
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        found = os.statvfs(folder)
    except OSError:
        return True  # whatever is wrong there is told by whoever writes
    free = (found.f_bfree if os.geteuid() == 0 else found.f_bavail) * found.f_frsize
    return free >= LEAST_BYTES and (found.f_files == 0 or found.f_ffree > 0)


def no_room_for(what: str) -> str:
    """What a person reads while work waits for space."""
    return f"No space left for {what}. Work waits, and goes on by itself once some is freed; nothing is lost."
