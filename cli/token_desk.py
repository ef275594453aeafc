"""Where tokens are kept: a server's database where PIXMILL_SERVER names one, this machine's otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cli.context import make_home, open_database, settings

if TYPE_CHECKING:
    from api.client import Client
    from store.database import Database
    from store.tokens import TokenRow

DAY_S = 86_400.0


class TokenDesk(Protocol):
    """Tokens, those that ended too."""

    def all(self) -> Sequence[TokenRow]:
        """The oldest first."""
        ...

    def make(self, name: str, owner: str, scope: str, good_s: float | None) -> tuple[TokenRow, str]:
        """A new one, good for so many seconds or for ever; and its secret, which nobody is told again."""
        ...

    def revoke(self, token_id: str) -> None:
        """End it for good."""
        ...


@dataclass(frozen=True, slots=True)
class LocalTokens:
    """Those of a database."""

    database: Database

    def all(self) -> Sequence[TokenRow]:
        """See TokenDesk."""
        from store import tokens

        return tokens.list_tokens(self.database)

    def make(self, name: str, owner: str, scope: str, good_s: float | None) -> tuple[TokenRow, str]:
        """See TokenDesk."""
        from store import tokens

        until = None if good_s is None else time.time() + good_s
        return tokens.create(self.database, name=name, owner=owner, scopes=(scope,), expires_at=until)

    def revoke(self, token_id: str) -> None:
        """See TokenDesk."""
        from store import tokens

        tokens.revoke(self.database, token_id)


@dataclass(frozen=True, slots=True)
class ServerTokens:
    """Those of a server, for an admin. Raises ApiErrors."""

    client: Client

    def all(self) -> Sequence[TokenRow]:
        """See TokenDesk."""
        from api.client.shapes import token_of

        return [token_of(record) for record in self.client.tokens()]

    def make(self, name: str, owner: str, scope: str, good_s: float | None) -> tuple[TokenRow, str]:
        """See TokenDesk."""
        from api.client.shapes import token_of

        days = None if good_s is None else good_s / DAY_S
        made = self.client.make_token(name, owner=owner, scope=scope, expires_in_days=days)
        return token_of(made), made["secret"]

    def revoke(self, token_id: str) -> None:
        """See TokenDesk."""
        self.client.revoke_token(token_id)


@contextmanager
def open_tokens(*, create: bool = False) -> Iterator[TokenDesk]:
    """The tokens that a command works on. `create`: with a home and a database where there are none yet."""
    chosen = settings()
    if chosen.server:
        from cli.desk_remote import remote_desk

        with remote_desk(chosen) as desk:
            yield ServerTokens(desk.client)
        return
    if create:
        make_home(chosen)
    with open_database(chosen, create=create and chosen.database_url is None) as database:
        yield LocalTokens(database)
