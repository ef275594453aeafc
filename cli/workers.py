"""`pixmill workers`: who works, on what, with which models, and when they were last seen."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.opening import open_desk
from cli.output import emit_json, emit_table, say


def workers(json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False) -> None:
    """List the workers that signed in: what they work on, their models, what they have done."""
    with open_desk() as desk:
        records = desk.workers()
    if json:
        for record in records:
            emit_json(record)
        return
    if not records:
        say("No worker has signed in yet. `pixmill worker` starts one, and so does every job in local mode.")
        return
    emit_table(
        ("worker", "on", "device", "state", "models", "images", "since", "last seen"),
        (
            (
                *(record["id"], record["host"], record["device"], record["state"], ", ".join(record["models"])),
                *(record["images"], record["started_at"], record["seen_at"]),
            )
            for record in records
        ),
    )
