"""`pixmill api`: the HTTP API, until Ctrl-C or SIGTERM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.context import COMING_UP_S, make_home, open_database, settings
from cli.errors import CommandError, Exit
from cli.output import say
from worker.settings import Settings


def api(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; by default only this machine can reach it.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.", min=0, max=65535)] = None,
    root: Annotated[
        list[Path] | None, typer.Option(help="Folder whose files may be named in requests; may be repeated.")
    ] = None,
) -> None:
    """Serve the HTTP API. It hands jobs to workers that run elsewhere; `pixmill up` runs everything."""
    from api.serve import address, first_token, listen, serve

    chosen = _chosen(settings(), host, port)
    roots = _roots(chosen, root or [])
    make_home(chosen)
    with open_database(chosen, create=chosen.database_url is None, wait_s=COMING_UP_S) as database:
        made = first_token(chosen, database)
    try:
        sock = listen(chosen.api_host, chosen.api_port)
    except OSError as error:
        raise CommandError(
            f"Cannot listen on {chosen.api_host}, port {chosen.api_port}: {error.strerror}. "
            "Another program may have the port; --port chooses another one."
        ) from error
    where = address(chosen.api_host, sock.getsockname()[1])

    def ready() -> None:
        say(f"Pixmill answers at {where}. Ctrl-C stops.")
        say(f"Roots: {', '.join(map(str, roots))}" if roots else "Roots: none; only uploads can be classified.")
        say(f"Token: {chosen.token_file}{' (made now)' if made else ''}. Try:")
        say(f'  curl -H "Authorization: Bearer $(cat {chosen.token_file})" {where}/api/v1/whoami')

    serve(chosen, sock, roots=roots, ready=ready)
    say("Stopped.")


def _chosen(found: Settings, host: str | None, port: int | None) -> Settings:
    """The settings with the command's own choices."""
    given = {"api_host": host, "api_port": port}
    return Settings.model_validate({**found.model_dump(), **{k: v for k, v in given.items() if v is not None}})


def _roots(chosen: Settings, named: list[Path]) -> list[Path]:
    """The folders that requests may name. Raises CommandError where one is not there, or none was said and must be."""
    from api.serve import is_loopback

    roots = named or list(chosen.roots)
    if not roots and is_loopback(chosen.api_host):
        roots = [Path.cwd()]
    if not roots:
        raise CommandError(
            f"{chosen.api_host} can be reached from other machines: say with --root (or PIXMILL_ROOTS) which folders "
            "their requests may name."
        )
    for folder in roots:
        if not folder.is_dir():
            raise CommandError(f"--root: expected a folder, got {str(folder)!r}.", Exit.NOT_FOUND)
    return [folder.absolute() for folder in roots]
