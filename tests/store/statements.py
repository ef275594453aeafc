"""What an action asks of a database."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from store.database import Database


def noted(database: Database, action: Callable[[], object]) -> list[tuple[str, Any]]:
    """Do it; every statement that was run for it, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _cur: object, statement: str, parameters: object, _ctx: object, _many: bool) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return seen
