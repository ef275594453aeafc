"""`pixmill doctor`: whether this machine, or the server that PIXMILL_SERVER names, is fit for work, point by point."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.errors import Exit
from cli.opening import open_desk
from cli.output import emit_json, out


def doctor(
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only database and broker: for health checks.")] = False,
) -> None:
    """Check this machine: Python, SQLite, database, broker, devices, engine, disk, models; or a server."""
    with open_desk() as desk:
        findings = list(desk.examine(quick=quick))
    for finding in findings:
        if json:
            emit_json(asdict(finding))
        else:
            mark = "[green]✓[/]" if finding.ok else "[red]✗[/]"
            out.print(mark, f"{finding.point:10}", finding.detail, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(Exit.UNEXPECTED)
