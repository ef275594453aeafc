"""Opening the desk: a server's where PIXMILL_SERVER names one, this machine's otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cli.context import settings
from cli.desk import Desk
from cli.output import say


@contextmanager
def open_desk() -> Iterator[Desk]:
    """The desk of this process; closed in the end. Raises CommandError where a setting is wrong."""
    chosen = settings()
    if chosen.server:
        from cli.desk_remote import remote_desk

        with remote_desk(chosen) as desk:
            yield desk
        return
    from cli.desk_local import LocalDesk

    with LocalDesk(chosen) as local:
        yield local


def stays_here(what: str) -> None:
    """Say that a command works on this machine all the same where PIXMILL_SERVER names another."""
    server = settings().server
    if server:
        say(
            f"PIXMILL_SERVER names {server}, but `pixmill {what}` works on this machine, with {settings().home}.",
            "yellow",
        )
