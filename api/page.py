"""The API's own pages: what it offers, made from its description, and what each problem means. No script, no CDN."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.openapi import METHODS
from api.problem_kinds import KINDS

router = APIRouter(include_in_schema=False)

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cache-control": "private, max-age=300",
}
TITLES = {"read": "reads", "submit": "submits", "admin": "administers"}
HEALTH = "health"  # the last chapter


@router.get("/")
def front(request: Request) -> HTMLResponse:
    """Every operation, by chapter."""
    here = f"{request.url.scheme}://{request.headers['host']}"  # the host guard let it in
    return HTMLResponse(_front(request.app.openapi(), here), headers=HEADERS)


@router.get("/errors")
def errors() -> HTMLResponse:
    """Every type of problem, with what to do."""
    return HTMLResponse(_errors(), headers=HEADERS)


def _front(schema: dict[str, Any], here: str) -> str:
    chapters: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                chapters.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(method, path, operation))
    order = sorted(chapters, key=lambda name: name == HEALTH)
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in order)
    body = "".join(
        f'<section id="{escape(name)}"><h2>{escape(name)}</h2>{"".join(chapters[name])}</section>' for name in order
    )
    return _page(
        "Pixmill",
        f"""<header><h1>Pixmill</h1><p>{escape(schema["info"]["summary"])}</p>
<nav>{links}<a href="/errors">errors</a><a href="/openapi.json">openapi.json</a></nav></header>
<pre>curl -H "Authorization: Bearer $TOKEN" {escape(here)}/api/v1/whoami</pre>{body}""",
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    scope = next((names[0] for item in operation.get("security", []) for names in item.values() if names), None)
    badge = f'<i class="{scope}" title="needs a token that {TITLES[scope]}">{scope}</i>' if scope in TITLES else ""
    shown = "".join(f"<em>{escape(part)}</em>" if part.startswith("{") else escape(part) for part in _split(path))
    return (
        f'<details><summary><b class="{method}">{method.upper()}</b><code>{shown}</code>'
        f"<span>{escape(operation.get('summary', ''))}</span>{badge}</summary>"
        f"{_paragraphs(operation.get('description', ''))}{''.join(_facts(operation))}</details>"
    )


def _split(path: str) -> Iterator[str]:
    """`/jobs/{job}/items` as `/jobs/`, `{job}`, `/items`."""
    for n, part in enumerate(path.split("{")):
        inside, brace, rest = part.partition("}")
        yield from ("{" + inside + brace, rest) if n else (part,)


def _facts(operation: dict[str, Any]) -> Iterator[str]:
    if rows := "".join(map(_parameter, operation.get("parameters", []))):
        yield f"<table><tr><th>parameter<th>in<th>is<th></tr>{rows}</table>"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p class=k>Body <code>{escape(media)}</code> {escape(_kind(content.get('schema', {})))}</p>"
    answers = "".join(
        f"<li><b>{status}</b> {_answer(status, entry)}" for status, entry in operation["responses"].items()
    )
    yield f"<p class=k>Answers<ul>{answers}</ul>"


def _parameter(item: dict[str, Any]) -> str:
    name = f"<code>{escape(item['name'])}</code>{'*' if item.get('required') else ''}"
    kind, text = escape(_kind(item.get("schema", {}))), _marked(item.get("description", ""))
    return f"<tr><td>{name}<td>{item['in']}<td>{kind}<td>{text}</tr>"


def _answer(status: str, entry: dict[str, Any]) -> str:
    slugs = [slug for slug, kind in KINDS.items() if str(kind.status) == status and f"`{slug}`" in entry["description"]]
    if slugs:
        return ", ".join(f'<a href="/errors#{slug}">{slug}</a>' for slug in slugs)
    kinds = ", ".join(_kind(content.get("schema", {})) or media for media, content in entry.get("content", {}).items())
    return escape(f"{entry['description']}{': ' if kinds else ''}{kinds}")


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " | ".join(dict.fromkeys(found for part in schema[word] if (found := _kind(part)) != "null"))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {})) or 'anything'}"
    return str(schema.get("type", schema.get("title", "")))


def _errors() -> str:
    parts = "".join(
        f'<article id="{slug}"><h2><b class="s{kind.status // 100}">{kind.status}</b><code>{slug}</code></h2>'
        f"<p><strong>{escape(kind.title)}.</strong> {_marked(kind.when)}<p>{_marked(kind.advice)}</article>"
        for slug, kind in KINDS.items()
    )
    intro = "Every error is `application/problem+json` (RFC 9457). Its `type` leads to a line of this page."
    header = f'<header><h1>Errors</h1><p>{_marked(intro)}</p><nav><a href="/">the API</a></nav></header>'
    return _page("Errors of Pixmill", header + parts)


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    """Text with `code` in it."""
    return "".join(f"<code>{escape(part)}</code>" if n % 2 else escape(part) for n, part in enumerate(text.split("`")))


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1"><meta name=color-scheme content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><main>{body}</main></html>"
    )
