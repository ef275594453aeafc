"""The same thing in two languages: what errors of the packages below say to the command line, said to HTTP, and back.

Those errors are raised for whoever is there, in the words of a shell: `--exclude`, `pixmill jobs list`. A program that
speaks HTTP has fields and operations instead. What a job keeps as its own `error` stays as it was written.
"""

from __future__ import annotations

import re

# A command that a message names, and the operation that does the same. `{…}` is a word that both have.
OPERATIONS: dict[str, str] = {
    "pixmill jobs list": "GET /api/v1/jobs",
    "pixmill jobs resume {job}": "POST /api/v1/jobs/{job}/resume",
    "pixmill jobs retry {job}": "POST /api/v1/jobs/{job}/retry",
    "pixmill models alias": "PUT /api/v1/models/NAME/aliases/ALIAS",
    "pixmill models list": "GET /api/v1/models",
    "pixmill models presets": "GET /api/v1/presets",
    "pixmill models pull {preset}": "POST /api/v1/presets/pull, preset {preset}",
    "pixmill runs list": "GET /api/v1/runs",
    "pixmill runs recipe {run}": "GET /api/v1/runs/{run}/recipe",
}
# Options that messages name, as fields of a body or a query. A closed list: a folder may be called --old.
OPTIONS = (
    "allow-leaks", "base", "exclude", "force", "include", "labels", "max-failures", "mode", "name", "output", "preset",
    "scale", "size", "split",
)  # fmt: skip

_BLANK = re.compile(r"{(\w+)}")
_ONE_OF = "|".join(OPTIONS)
_OPTION = re.compile(rf"(?<![^\s(])--({_ONE_OF})(?![\w-])")
_QUOTED = re.compile(rf"`--({_ONE_OF})((?![\w-])[^`]*)`")
_FIELD = re.compile(rf"`({_ONE_OF.replace('-', '_')})`")
_HERE = re.compile(r"^Then here: pixmill models import (\S+)$", re.MULTILINE)


def _pattern(text: str) -> re.Pattern[str]:
    """Finds a command or an operation in backticks, with any words in its blanks."""
    parts = [re.escape(part) if n % 2 == 0 else rf"(?P<{part}>[^\s`]+)" for n, part in enumerate(_BLANK.split(text))]
    return re.compile("`" + "".join(parts) + "`")


def _template(text: str) -> str:
    return "`" + _BLANK.sub(lambda blank: rf"\g<{blank[1]}>", text) + "`"


_FOR_HTTP = [(_pattern(command), _template(operation)) for command, operation in OPERATIONS.items()]
_FOR_SHELL = [(_pattern(operation), _template(command)) for command, operation in OPERATIONS.items()]


def for_http(text: str) -> str:
    """A message in the words of the API: options become fields, commands operations."""
    for pattern, template in _FOR_HTTP:
        text = pattern.sub(template, text)
    text = _HERE.sub(r"Then here: `POST /api/v1/models?file=\1`, the file as its body", text)
    text = _QUOTED.sub(lambda found: f"`{_field(found[1])}`{found[2]}", text)
    return _OPTION.sub(lambda found: f"`{_field(found[1])}`", text)


def for_shell(text: str) -> str:
    """A problem's text for a person at a command line: operations become commands, fields options."""
    for pattern, template in _FOR_SHELL:
        text = pattern.sub(template, text)
    return _FIELD.sub(lambda found: f"--{found[1].replace('_', '-')}", text)


def _field(option: str) -> str:
    return option.replace("-", "_")
