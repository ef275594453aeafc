"""Whether this machine is fit for work, point by point: what `pixmill doctor` tells where there is no server."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cli.context import registry
from cli.desk import Finding
from cli.errors import CommandError, Exit, exit_code, message

if TYPE_CHECKING:
    from worker.settings import Settings

LOW_DISK_GB = 2.0
# Where SQLite's write-ahead log does not work: sqlite.org/wal.html
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")


def examine(chosen: Settings, *, quick: bool) -> Iterator[Finding]:
    """Look at every point; `quick`: only at database and broker."""
    points = QUICK_POINTS if quick else POINTS
    return (_examine(name, look, chosen) for name, look in points.items())


def _examine(name: str, look: Callable[[Settings], str], chosen: Settings) -> Finding:
    try:
        return Finding(name, True, look(chosen))
    except (CommandError, OSError, ImportError, RuntimeError) as error:
        return Finding(name, False, message(error))
    except Exception as error:
        if exit_code(error) is None:
            raise
        return Finding(name, False, message(error))


def _python(_: Settings) -> str:
    return f"{platform.python_version()} on {platform.machine()}, pixmill {importlib.metadata.version('pixmill')}"


def _sqlite(chosen: Settings) -> str:
    from store.database import WAL_SAFE, sqlite_module

    module = sqlite_module()
    safe = module.sqlite_version_info >= WAL_SAFE
    kind = next((kind for path, kind in _mounts() if os.fspath(chosen.home).startswith(path)), "")
    if kind in NETWORK_FILE_SYSTEMS:
        raise CommandError(f"{chosen.home} is on a network file system ({kind}): use a local disk, or PostgreSQL.")
    return f"{module.sqlite_version}, journal {'WAL' if safe else 'TRUNCATE (older than 3.51.3)'}"


def _mounts() -> Iterator[tuple[str, str]]:
    try:
        with open("/proc/mounts", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  not a file on a disk
            lines = [line.split() for line in file]
    except OSError:
        return
    yield from sorted(((fields[1], fields[2]) for fields in lines), key=lambda pair: -len(pair[0]))


def _database(chosen: Settings) -> str:
    from store import schema
    from store.database import Database

    database = Database(chosen.database)
    try:
        if chosen.database_url is None and not chosen.home.exists():
            return f"{database.where} will be made by the first job"
        found = schema.current(database)
        if found is not None:
            schema.check(database)
        return f"{database.where}, schema {found or 'none yet'}"
    finally:
        database.close()


def _broker(chosen: Settings) -> str:
    from worker.broker import server_binary
    from worker.dispatch import Dispatcher

    if chosen.broker_url is None:
        return f"embedded: {server_binary()}"
    dispatcher = Dispatcher(chosen)
    waiting = dispatcher.waiting()
    dispatcher.close()
    if waiting is None:
        raise CommandError("PIXMILL_BROKER_URL names a broker that does not answer.", Exit.UNREACHABLE)
    return f"answers; {waiting} hints wait"


def _devices(_: Settings) -> str:
    from worker.devices import list_gpus

    gpus = list_gpus()
    return ", ".join(f"{device.title} {device.visible}" for device in gpus) or f"CPU, {os.cpu_count()} cores"


def _engine(_: Settings) -> str:
    version = importlib.metadata.version("openvino")
    trainer = next(
        (f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow-cpu", "tensorflow") if _has(name)), ""
    )
    return f"OpenVINO {version}" + (f", {trainer}" if trainer else "; no TensorFlow: models cannot be imported here")


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _disk(chosen: Settings) -> str:
    folder = chosen.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{folder} is not writable. PIXMILL_HOME can name another folder.")
    if free < LOW_DISK_GB:
        raise CommandError(f"only {free:.1f} GB are free at {folder}.")
    return f"{free:.0f} GB free at {chosen.home}"


def _models(chosen: Settings) -> str:
    names = [version.reference for version in registry(chosen).list()]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "none yet"


QUICK_POINTS: dict[str, Callable[[Settings], str]] = {"database": _database, "broker": _broker}
POINTS: dict[str, Callable[[Settings], str]] = {
    "python": _python,
    "sqlite": _sqlite,
    "database": _database,
    "broker": _broker,
    "devices": _devices,
    "engine": _engine,
    "disk": _disk,
    "models": _models,
}
