"""What every request works with: settings, database, registry, roots, the queue, and the parts that live long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, Request

from api.roots import Roots
from models.registry import Registry
from store.database import Database
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.dispatch import Dispatcher

PATIENCE_S = 5.0  # of a request with a database that is locked or busy; then it is a 503

T = TypeVar("T")


class Context:
    """One API process. Making it connects to nothing and starts nothing."""

    def __init__(self, settings: Settings, roots: Sequence[Path] | None = None) -> None:
        """`roots` goes before the settings' own. Raises OSError where a root is not there."""
        self.settings = settings
        self.database = Database(settings.database, patience_s=PATIENCE_S)
        self.registry = Registry(settings.models_folder)
        allowed = settings.roots if roots is None else roots
        self.roots = Roots(allowed, private=settings.home, uploads=settings.uploads_folder)
        self.stopping = threading.Event()  # set the moment a shutdown begins: streams end themselves
        self._parts: dict[Any, Any] = {}
        self._lock = threading.RLock()

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """The way to the queue. Imports Celery (half a second) at its first use: keep that off a request's path."""
        from worker.dispatch import Dispatcher

        with self._lock:
            return Dispatcher(self.settings)

    def part(self, kind: Callable[[Context], T]) -> T:
        """The one `kind(context)` of this process, made at its first use. At the end its `stop()` is called, if any."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            found: T = self._parts[kind]
            return found

    def close(self) -> None:
        """Stop the parts, the youngest first, and close the connections."""
        self.stopping.set()
        for part in reversed(list(self._parts.values())):
            if stop := getattr(part, "stop", None):
                stop()
        if "dispatcher" in self.__dict__:
            self.dispatcher.close()
        self.database.close()


async def context_of(request: Request) -> Context:
    """The context of the app that answers this request."""
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(context_of)]
