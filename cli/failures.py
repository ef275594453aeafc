"""What commands say of failed images: how many may fail, and their codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from cli.errors import CommandError

MaxFailures = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|P%|none",
        help="Stop once more images failed than this number or share; none: never. Without it, only where the first "
        "images all fail for one common cause.",
        show_default=False,
    ),
]

NewLimit = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|P%|none",
        help="From now on, stop once more images failed than this number or share; none: never.",
        show_default=False,
    ),
]


def check_max_failures(text: str | None) -> str | None:
    """What --max-failures says. Raises CommandError."""
    if text is None:
        return None
    from store.failure_limits import Limit

    try:
        return Limit.of(text).text
    except ValueError as error:
        raise CommandError(f"--max-failures: {error}.") from error


def check_codes(codes: Sequence[str]) -> Sequence[str]:
    """What --code says. Raises CommandError for a code that no image can fail with."""
    if not codes:
        return codes
    from worker.failures import unknown_codes

    if said := unknown_codes(codes):
        raise CommandError(f"--code: {said}.")
    return codes
