"""`pixmill token`: who may use the HTTP API of this machine, or of the server that PIXMILL_SERVER names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from cli.clock import moment
from cli.errors import CommandError, Exit
from cli.output import emit_json, emit_table, out, say
from cli.token_desk import open_tokens

if TYPE_CHECKING:
    from store.tokens import TokenRow

app = typer.Typer(no_args_is_help=True, help="Tokens of the HTTP API.")

SCOPES = ("read", "submit", "admin")
SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    owner: Annotated[str | None, typer.Option(help="Whose jobs it makes and sees; NAME unless said.")] = None,
    scope: Annotated[
        str, typer.Option(help="read, submit (and read), or admin (everything, of everybody).")
    ] = "submit",
    expires: Annotated[str | None, typer.Option(help="How long it is good: 90d, 12h, 30m, 4w; else for ever.")] = None,
    json: Json = False,
) -> None:
    """Make a token. It is printed this once: only a hash of it is kept."""
    from api.schemas.tokens import token_record

    if scope not in SCOPES:
        raise CommandError(f"--scope: expected {', '.join(SCOPES)}, got {scope!r}.")
    for what, text in (("NAME", name), ("--owner", owner or "")):
        if len(text) > 64 or not text.isprintable() or (what == "NAME" and not text):
            raise CommandError(f"{what}: expected up to 64 printable characters, got {text!r}.")
    good_s = None if expires is None else seconds(expires)
    with open_tokens(create=True) as desk:
        row, secret = desk.make(name, name if owner is None else owner, scope, good_s)
    if json:
        emit_json({**token_record(row), "secret": secret})
        return
    out.print(secret, markup=False, soft_wrap=True)
    say(f"Token {row.id} of {row.owner!r}, scope {scope}, {_until(row)}. It is not shown again.")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the tokens, those that ended too."""
    from api.schemas.tokens import token_record

    with open_tokens() as desk:
        rows = desk.all()
    if json:
        emit_json([token_record(row) for row in rows])
        return
    shown = [
        (row.id, row.name, f"pxm_{row.prefix}…", row.owner, row.scopes[-1], _until(row), _used(row)) for row in rows
    ]
    emit_table(("id", "name", "starts with", "owner", "scope", "good", "last used"), shown)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id, its start (pxm_…), or its name if no other has it.")],
) -> None:
    """End a token, at once and for good."""
    with open_tokens() as desk:
        found = [row for row in desk.all() if not row.is_revoked and token in _handles(row)]
        if len(found) != 1:
            what = "Several tokens are" if found else "No token that could be revoked is"
            raise CommandError(f"{what} called {token!r}. `pixmill token list` shows them.", Exit.NOT_FOUND)
        desk.revoke(found[0].id)
    say(f"Token {found[0].id} ({found[0].name}) is revoked.")


def seconds(text: str) -> float:
    """`90d`, `12h`, `30m` or `4w` as seconds. Raises CommandError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text.strip().lower())
    if match is None:
        raise CommandError(f"--expires: expected a number and m, h, d or w, as in 90d; got {text!r}.")
    return float(int(match[1]) * SECONDS[match[2]])


def _handles(row: TokenRow) -> tuple[str, ...]:
    return (row.id, row.name, row.prefix, f"pxm_{row.prefix}")


def _until(row: TokenRow) -> str:
    if row.revoked_at is not None:
        return f"revoked {moment(row.revoked_at)}"
    if row.expires_at is None:
        return "for ever"
    return f"{'until' if not row.is_expired else 'expired'} {moment(row.expires_at)}"


def _used(row: TokenRow) -> str:
    return "never" if row.last_used_at is None else moment(row.last_used_at)
