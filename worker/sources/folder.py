"""A folder, walked to its last subfolder: sorted, streaming, and opening only files that hide what they are."""
# Names are bytes here, since they need not be text, and pathlib holds only text:
# ruff: noqa: PTH112, PTH116

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from models.formats import HEAD_BYTES
from worker.sources.entry import Entry, not_empty, pass_over, printable
from worker.sources.errors import UnreadablePath
from worker.sources.rules import Rules, is_hidden, kind, looks_like_picture

_MAX_UNREADABLE = 20  # subfolders that are told by name


class FolderSource:
    """The images of one folder."""

    def __init__(self, root: Path, rules: Rules) -> None:
        self.root = root
        self.confined = not rules.follow_links
        self.description = f"folder {printable(str(root))}"
        self.ignored: Counter[str] = Counter()
        self._rules = rules

    def __iter__(self) -> Iterator[Entry]:
        self.ignored.clear()
        walk = Walk(os.fsencode(self.root), b"", self._rules, self.ignored)
        return not_empty(iter(walk), self.description, self.ignored)


class Walk:
    """One pass over the folder `start`: per folder its files by name, then its subfolders by name, as bytes order them.

    prefix: put before every path. Memory is the names of one folder and of the subfolders that still wait.
    A subfolder that cannot be listed is counted in `ignored`; for `start` itself UnreadablePath is raised.
    """

    def __init__(self, start: bytes, prefix: bytes, rules: Rules, ignored: Counter[str]) -> None:
        self._start = start if start.endswith(b"/") else start + b"/"
        self._prefix = prefix
        self._rules = rules
        self._ignored = ignored
        self._seen: set[tuple[int, int]] = set()  # folders by device and inode, kept only where links are followed
        self._unreadable = 0

    def __iter__(self) -> Iterator[Entry]:
        pending = [b""]
        while pending:
            folder = pending.pop()
            files, subfolders = self._list(folder)
            label, split = self._rules.marks(folder)
            for name in sorted(files):
                path = folder + name
                found = self._find(path, name in subfolders)
                if found is None:
                    continue
                size, mtime_ns = found
                yield Entry(self._prefix + path, size, mtime_ns, label, split)
            pending.extend(folder + name + b"/" for name in sorted(subfolders, reverse=True))

    def _list(self, folder: bytes) -> tuple[list[bytes], set[bytes]]:
        """Names of all that may be images, and of the subfolders to walk; a folder named `x.jpg` is in both."""
        files: list[bytes] = []
        subfolders: set[bytes] = set()
        try:
            if self._is_again(folder):
                return files, subfolders
            with os.scandir(self._start + folder) as listing:
                for entry in listing:
                    name = entry.name
                    if is_hidden(name):
                        pass_over(self._ignored, "hidden")
                    elif self._is_subfolder(entry):
                        self._take_subfolder(folder, name, files, subfolders)
                    else:
                        files.append(name)
        except OSError as error:
            self._blame(folder, error)
        return files, subfolders

    def _is_subfolder(self, entry: os.DirEntry[bytes]) -> bool:
        """Whether this is a folder; a link to one counts when links are followed, else it is left to `_find`."""
        try:
            return entry.is_dir(follow_symlinks=self._rules.follow_links)
        except OSError:  # a link that leads round in a circle
            return False

    def _take_subfolder(self, folder: bytes, name: bytes, files: list[bytes], subfolders: set[bytes]) -> None:
        path = folder + name
        if self._rules.excludes(path):
            return pass_over(self._ignored, "excluded folder")
        if not self._rules.include and self._rules.picks(path):
            files.append(name)  # its owner believes it to be an image: one item that says what it is
        if not self._rules.recursive:
            return pass_over(self._ignored, "subfolder")
        return subfolders.add(name)

    def _find(self, path: bytes, is_subfolder: bool) -> tuple[int | None, int | None] | None:
        """Size and time of an image, (None, None) of what is only named like one, or None for neither."""
        picked = self._rules.picks(path)
        if is_subfolder:
            return None, None
        if self._rules.excludes(path):
            pass_over(self._ignored, "excluded")
            return None
        if picked is False:
            pass_over(self._ignored, kind(path))
            return None
        if picked is None:
            return self._find_by_bytes(path)
        try:
            facts = os.stat(self._start + path)
        except OSError:
            return None, None
        if stat.S_ISREG(facts.st_mode):
            return facts.st_size, facts.st_mtime_ns
        if stat.S_ISDIR(facts.st_mode):
            pass_over(self._ignored, "link to a folder")
            return None
        return None, None

    def _find_by_bytes(self, path: bytes) -> tuple[int, int] | None:
        """The same for a plain file whose name does not tell; links, pipes and devices are never opened for it."""
        full = self._start + path
        try:
            facts = os.lstat(full)
            if stat.S_ISREG(facts.st_mode) and looks_like_picture(_head(full)):
                return facts.st_size, facts.st_mtime_ns
            is_link = stat.S_ISLNK(facts.st_mode)
        except OSError:
            is_link = False
        if is_link:
            pass_over(self._ignored, "link to a folder" if os.path.isdir(full) else "link")
        else:
            pass_over(self._ignored, kind(path))
        return None

    def _is_again(self, folder: bytes) -> bool:
        """Whether the walk was in this folder before, by a link that leads back or by two links to one folder."""
        if not self._rules.follow_links:
            return False
        facts = os.stat(self._start + folder)
        key = facts.st_dev, facts.st_ino
        if key in self._seen:
            pass_over(self._ignored, "folder met before")
            return True
        self._seen.add(key)
        return False

    def _blame(self, folder: bytes, error: OSError) -> None:
        if not folder:
            raise UnreadablePath(printable(self._start.rstrip(b"/") or b"/"), error) from error
        self._unreadable += 1
        if self._unreadable > _MAX_UNREADABLE:
            return pass_over(self._ignored, "unreadable folder (more)")
        reason = "" if isinstance(error, PermissionError) else f" ({errno.errorcode.get(error.errno or 0, 'error')})"
        return pass_over(self._ignored, f"unreadable folder {printable(folder.rstrip(b'/'))}{reason}")


def _head(path: bytes) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
