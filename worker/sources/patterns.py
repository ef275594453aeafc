"""Glob patterns: `*` and `?` stay within one name, `[abc]` is a class, `**` crosses folders."""

import re

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    """Whether the text holds a glob's special characters."""
    return _MAGIC.search(text) is not None


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """A regular expression for `fullmatch` on a '/'-separated path. An unclosed `[` stands for itself."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.compile("".join(_pieces(pattern)), flags)


def split_pattern(pattern: str) -> tuple[str, list[str]]:
    """Cut an absolute pattern into the folder before its first special name, and the names from there on."""
    names = pattern.split("/")
    first = next((at for at, name in enumerate(names) if is_pattern(name)), len(names))
    return "/".join(names[:first]) or "/", [name for name in names[first:] if name]


def _pieces(pattern: str) -> list[str]:
    pieces, at = [], 0
    while at < len(pattern):
        piece, at = _piece(pattern, at)
        pieces.append(piece)
    return pieces


def _piece(pattern: str, at: int) -> tuple[str, int]:
    """The expression for what stands at this position, and where to go on."""
    if pattern.startswith("**/", at):
        return "(?:[^/]+/)*", at + 3
    if pattern.startswith("**", at):
        return ".*", at + 2
    if pattern[at] == "[":
        return _class(pattern, at)
    simple = {"*": "[^/]*", "?": "[^/]"}
    return simple.get(pattern[at], re.escape(pattern[at])), at + 1


def _class(pattern: str, at: int) -> tuple[str, int]:
    """`[abc]`, `[a-z]`, `[!abc]`; a `]` right behind the opening belongs to the class, as in every shell."""
    negated = pattern[at + 1 : at + 2] in ("!", "^")
    start = at + 2 if negated else at + 1
    end = pattern.find("]", start + 1)
    if end < 0:
        return re.escape("["), at + 1
    body = re.sub(r"([\\\[\]^&~|])", r"\\\1", pattern[start:end]).replace("--", "-\\-")
    try:
        re.compile(f"[{body}]")
    except re.error:  # [z-a]: a range that runs backwards matches nothing in a shell
        return "(?!)", end + 1
    return f"(?!/)[{'^' if negated else ''}{body}]", end + 1
