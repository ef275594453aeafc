"""The API's own pages: whole, safe, and without another host."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI

from api.app import make_app
from api.openapi import METHODS
from api.problem_kinds import KINDS
from tests.api.asgi import HOST, ask
from worker.settings import Settings


class Elements(HTMLParser):
    """Which elements a page has, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return make_app(Settings(home=tmp_path_factory.mktemp("page")), roots=())


@pytest.mark.parametrize("path", ["/", "/errors"])
def test_a_page_needs_no_other_host_and_no_script(app: FastAPI, path: str) -> None:
    answer = ask(app, "GET", path)
    assert answer.status == 200
    text = answer.body.decode()
    for tag, attributes in Elements(text).found:
        assert tag not in ("script", "img", "link", "iframe", "form", "base"), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
        if "href" in attributes:
            assert re.match(r"[/#][^/]|/$", str(attributes["href"])), attributes
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme:dark" in text.replace(" ", "")


def test_the_policy_allows_exactly_this_style(app: FastAPI) -> None:
    answer = ask(app, "GET", "/")
    style = re.search(rb"<style>(.*?)</style>", answer.body, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_every_operation_is_on_the_page(app: FastAPI) -> None:
    text = ask(app, "GET", "/").body.decode()
    shown = re.sub(r"</?em>", "", text)
    operations = [(m, path) for path, found in app.openapi()["paths"].items() for m in METHODS if m in found]
    assert len(operations) >= 5
    for method, path in operations:
        assert f'<b class="{method}">{method.upper()}</b><code>{path}</code>' in shown, (method, path)


def test_every_problem_has_its_place(app: FastAPI) -> None:
    text = ask(app, "GET", "/errors").body.decode()
    for slug in KINDS:
        assert f'id="{slug}"' in text
    for target in re.findall(r'href="/errors#([^"]+)"', ask(app, "GET", "/").body.decode()):
        assert target in KINDS


def test_the_page_shows_the_address_it_was_called_by(app: FastAPI) -> None:
    assert b"http://localhost:1234/api/v1/whoami" in ask(app, "GET", "/", [(b"host", b"localhost:1234")]).body
    assert ask(app, "GET", "/", [HOST]).body.count(b"<script") == 0


def test_the_page_is_small(app: FastAPI) -> None:
    assert len(ask(app, "GET", "/").body) < 300_000
