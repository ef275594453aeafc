"""Exit codes, and which error ends with which: the table of DESIGN §7, documented in docs/cli.md."""

from __future__ import annotations

import sys
from enum import IntEnum


class Exit(IntEnum):
    """How a command ends."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    NOT_ALLOWED = 5
    WITH_FAILURES = 6
    CANCELLED = 7  # or paused by somebody: in any case it did not come to its end
    INTERRUPTED = 130
    UNHEARD = 141  # nobody reads its messages any more: as SIGPIPE ends other programs


class CommandError(Exception):
    """A user's mistake or a state of the machine, in words, with its exit code."""

    def __init__(self, message: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code


# The first line that matches decides. By name: a module that was never imported cannot have raised anything, and to
# import them all here would make every command slow.
TABLE: tuple[tuple[str, str, Exit], ...] = (
    ("worker.sources.errors", "NoSuchPath", Exit.NOT_FOUND),
    ("worker.sources.errors", "SourceError", Exit.USAGE),
    ("models.errors", "UnknownModel", Exit.NOT_FOUND),
    ("models.errors", "InvalidModel", Exit.USAGE),
    ("models.errors", "InvalidRecipe", Exit.USAGE),
    ("models.errors", "HubUnreachable", Exit.UNREACHABLE),
    ("models.errors", "ModelError", Exit.UNEXPECTED),
    ("store.errors", "UnknownJob", Exit.NOT_FOUND),
    ("store.errors", "UnknownRun", Exit.NOT_FOUND),
    ("store.errors", "IllegalMove", Exit.USAGE),
    ("store.errors", "NothingToDo", Exit.USAGE),
    ("store.errors", "DatabaseUnavailable", Exit.UNREACHABLE),
    ("store.asking", "QueryRefused", Exit.USAGE),
    ("store.errors", "StoreError", Exit.UNEXPECTED),
    ("worker.broker", "BrokerError", Exit.UNREACHABLE),
    ("api.client.errors", "Unreachable", Exit.UNREACHABLE),
    ("api.client.errors", "NotReadable", Exit.NOT_FOUND),
    ("api.client.errors", "BrokenAnswer", Exit.UNREACHABLE),
    ("api.client.errors", "NotAllowed", Exit.NOT_ALLOWED),
    ("api.client.errors", "TooMany", Exit.NOT_ALLOWED),
    ("api.client.errors", "NotFound", Exit.NOT_FOUND),
    ("api.client.errors", "Conflict", Exit.USAGE),
    ("api.client.errors", "Invalid", Exit.USAGE),
    ("api.client.errors", "Unavailable", Exit.UNREACHABLE),
    ("api.client.errors", "ServerError", Exit.UNEXPECTED),
    ("worker.devices", "DeviceError", Exit.USAGE),
    ("builtins", "PermissionError", Exit.NOT_ALLOWED),
    ("builtins", "OSError", Exit.UNEXPECTED),
)


def exit_code(error: Exception) -> Exit | None:
    """The exit code of an error that a person can do something about; None for a bug."""
    if isinstance(error, CommandError):
        return error.code
    for module, name, code in TABLE:
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
            return code
    return None


def message(error: Exception) -> str:
    """What to tell the person."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}."
    return _as_commands(str(error)) if _is_of_a_server(error) else str(error)


def _is_of_a_server(error: Exception) -> bool:
    client = sys.modules.get("api.client.errors")
    return client is not None and isinstance(error, client.ApiError)


def _as_commands(text: str) -> str:
    """What a server says in its own words, for somebody at a shell."""
    from api.words import for_shell

    return for_shell(text)
