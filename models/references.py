"""Names of models and references to their versions: `birds`, `birds@3`, `birds@production`."""

from __future__ import annotations

import re
from pathlib import Path

from models.errors import InvalidModel

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
LATEST = "latest"
UNSAID_SUFFIXES = ("_imagenet",)  # `mobilenet_v2_imagenet.keras` is asked for as `mobilenet_v2`


def check_name(name: str, what: str = "model name") -> str:
    """The name in lower case. Raises InvalidModel where it is none."""
    lowered = name.strip().lower()
    if NAME.fullmatch(lowered) and not lowered.endswith("."):
        return lowered
    raise InvalidModel(
        f"A {what} has 1 to 64 of the characters a-z 0-9 _ . - and starts with a letter or digit (`birds`, "
        "`resnet50.v2`); "
        f"got {name!r}."
    )


def check_alias(alias: str) -> str:
    """The alias in lower case. Raises InvalidModel where it is none, or reads like a version number or `latest`."""
    lowered = check_name(alias, "model alias")
    if lowered.isdecimal() or lowered == LATEST:
        raise InvalidModel(f"A model alias is a word of its own, as in `birds@production`; got {alias!r}.")
    return lowered


def split_reference(reference: str) -> tuple[str, str]:
    """`birds@3` as ("birds", "3"); a bare name has the selector `latest`. Raises InvalidModel where the name is "
    "none."""
    name, at, selector = reference.partition("@")
    if at and not selector.strip():
        raise InvalidModel(f"Expected a version or alias after the @, as in `{name}@3`; got {reference!r}.")
    return check_name(name), selector.strip().lower() or LATEST


def name_of_file(file: Path) -> str:
    """A model's default name: the file's stem cleaned. `Mobile Net (1).keras` is `mobile_net_1`."""
    cleaned = re.sub(r"[^a-z0-9_.-]+", "_", file.stem.lower()).strip("_.-")
    for suffix in UNSAID_SUFFIXES:
        cleaned = cleaned.removesuffix(suffix) or cleaned
    if not cleaned:
        raise InvalidModel(f"{file.name!r} gives the model no name; choose one with --name.")
    return check_name(cleaned[:64].rstrip("_.-"))
