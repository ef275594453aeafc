"""One listener of a job: what it has heard already is not told again, and nothing is left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from api.following.channel import TROUBLE_S, Channel, steady
from api.following.messages import Look, encoded
from api.following.position import Position
from store.errors import StoreError

KEEP_ALIVE_S = 15.0  # proxies close what is silent for a minute
KEEP_ALIVE = b": still here\n\n"


class Listener:
    """Reads what it missed from the database, then hears what its channel tells."""

    def __init__(self, channel: Channel, position: Position, for_s: float | None = None) -> None:
        """`position` is where it was before; after `for_s` seconds it has heard enough."""
        self._channel = channel
        self._position = position
        self._clock = asyncio.get_running_loop().time
        self._until = None if for_s is None else self._clock() + for_s
        self._shown: dict[str, Any] = {}
        self._shown_at = 0.0  # when the look that found it had ended
        self._heard = 0  # of what the channel has told
        self._has_ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Events, encoded, with a comment where there is none for a while; ends with the job, or when time is up."""
        async for look in self._looks():
            if look is None:
                yield KEEP_ALIVE
                continue
            # As one: a history of hundreds is one write, also to somebody who has gone meanwhile.
            if said := b"".join(self._said(look)):
                yield said

    def _said(self, look: Look) -> Iterator[bytes]:
        for told in look.told:
            if not told.is_known(self._position):
                self._position = told.after(self._position)
                yield encoded(told.name, told.data, self._position)
        if look.progress is not None and self._is_newer(look):
            self._shown, self._shown_at = steady(look.progress), look.ended
            yield encoded("progress", look.progress, self._position)
        if look.end is not None:
            self._has_ended = True
            yield encoded("end", look.end, replace(self._position, ended=True))

    async def _looks(self) -> AsyncIterator[Look | None]:
        """The history, then the news; None where there is none for a while.

        The history is read after the channel has begun: what happens in between is in both, and known by its number.
        """
        while not await self._channel.begun(KEEP_ALIVE_S):
            yield None
        self._heard = self._channel.count
        async for look in self._history():
            yield look
        while not self._is_enough():
            if self._has_news():
                async for look in self._news():
                    yield look
            elif not await self._channel.news(self._patience()):
                yield None

    def _is_newer(self, look: Look) -> bool:
        """Whether its progress is another one than was shown, and later: the poller and this listener look apart."""
        is_other = look.is_whole and steady(look.progress) not in ({}, self._shown)
        return is_other and look.begun >= self._shown_at

    def _has_news(self) -> bool:
        told = self._heard < self._channel.count or self._channel.last.end is not None
        return told or self._is_newer(self._channel.last)

    async def _news(self) -> AsyncIterator[Look | None]:
        new, self._heard = self._channel.since(self._heard), self._channel.count
        if new is not None:
            yield replace(self._channel.last, told=tuple(new))
            return
        async for look in self._history():  # so slow that it was forgotten here
            yield look

    async def _history(self) -> AsyncIterator[Look | None]:
        """All that this listener has not heard, as the database has it; None while it cannot be asked."""
        whole = False
        while not whole and not self._is_enough(at_least_once=True):
            try:
                look = await self._channel.look_at(self._position)
            except StoreError:  # the channel's poller has written of it
                yield None
                await asyncio.sleep(TROUBLE_S)
                continue
            whole = look.is_whole
            yield look

    def _is_enough(self, *, at_least_once: bool = False) -> bool:
        """Whether to stop; what there is now is told even when no time was given."""
        if self._has_ended or self._channel.is_closed.is_set():
            return True
        if at_least_once:
            return self._until is not None and self._clock() > self._until + TROUBLE_S
        over = self._channel.is_over and self._channel.last.end is None
        return over or (self._until is not None and self._clock() >= self._until)

    def _patience(self) -> float:
        left = KEEP_ALIVE_S if self._until is None else self._until - self._clock()
        return max(0.0, min(KEEP_ALIVE_S, left))
