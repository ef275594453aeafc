"""The command line's reference as Markdown, made from the commands themselves (docs/cli.md)."""

from __future__ import annotations

from typer.main import get_command

from cli.tree import app


def reference() -> str:
    """A section per command: what it does, its arguments and options."""
    return "\n\n".join(_sections(get_command(app), "pixmill"))


def _sections(command: object, name: str) -> list[str]:
    children = getattr(command, "commands", None)
    if children:
        return [section for child in children for section in _sections(children[child], f"{name} {child}")]
    return [_section(command, name)]


def _section(command: object, name: str) -> str:
    lines = [f"## {name}", "", str(getattr(command, "help", "") or "").strip()]
    rows = [_row(parameter) for parameter in getattr(command, "params", []) if parameter.name != "help"]
    if rows:
        lines += ["", "| argument or option | |", "|---|---|", *rows]
    return "\n".join(lines)


def _row(parameter: object) -> str:
    names = [*getattr(parameter, "opts", []), *getattr(parameter, "secondary_opts", [])]
    shown = ", ".join(f"`{option}`" for option in names) if names[0].startswith("-") else f"`{names[0].upper()}`"
    default = getattr(parameter, "default", None)
    worth = default not in (None, False, (), []) and not callable(default) and names[0].startswith("-")
    tail = f" Default: {default}." if worth else ""
    return f"| {shown} | {getattr(parameter, 'help', '') or ''}{tail} |"
