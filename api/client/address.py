"""Where the server is and with which token: given, from the settings, or the token that a server here left for us."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Address:
    """A server: `url` without a slash at its end."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this very machine, by its address."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def find_address(server: str | None = None, token: str | None = None, settings: Settings | None = None) -> Address:
    """The address of a server: as given, else as PIXMILL_SERVER says, else where `pixmill api` listens by itself.

    The token: as given, else PIXMILL_TOKEN, else, of a server on this machine, the one in the home folder. Raises
    ValueError for what is no address.
    """
    chosen = settings or Settings()
    url = _url(server or chosen.server or f"http://{chosen.api_host}:{chosen.api_port}")
    address = Address(url, token or chosen.token)
    if address.token is None and address.is_loopback and chosen.token_file.is_file():
        return Address(url, chosen.token_file.read_text(encoding="utf-8").strip() or None)
    return address


def _url(text: str) -> str:
    full = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        parts = urlsplit(full)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username:
        raise ValueError(f"Expected a server's address like http://127.0.0.1:8420, got {text!r}.")
    return full.rstrip("/")
