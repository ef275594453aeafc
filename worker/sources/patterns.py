"""Glob patterns: `*` and `?` stay within one name, `[abc]` is a class, `**` crosses folders."""

import re
from collections.abc import Iterable, Sequence

_MAGIC = re.compile(r"[*?\[]")
# What may be of any length: within a name, whole folders, anything at all.
_STAR, _FOLDERS, _ANY = "[^/]*", "(?:[^/]+/)*", ".*"
_WILD = (_STAR, _FOLDERS, _ANY)
_FEW = 3  # wildcards that no order of trying makes slow


def is_pattern(text: str) -> bool:
    """Whether the text holds a glob's special characters."""
    return _MAGIC.search(text) is not None


def compile_pattern(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """A regular expression for `fullmatch` on a '/'-separated path. An unclosed `[` stands for itself.

    It never tries the ways again in which an earlier wildcard could have matched: a glob with many stars, which may
    come from a stranger, takes no longer than the length of the path squared.
    """
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.compile(_expression(_pieces(pattern)), flags)


def split_pattern(pattern: str) -> tuple[str, list[str]]:
    """Cut an absolute pattern into the folder before its first special name, and the names from there on."""
    names = pattern.split("/")
    first = next((at for at, name in enumerate(names) if is_pattern(name)), len(names))
    return "/".join(names[:first]) or "/", [name for name in names[first:] if name]


def _expression(pieces: list[str]) -> str:
    """The pieces as one expression, each wildcard bound to the nearest place where what follows it matches."""
    if sum(piece in _WILD for piece in pieces) <= _FEW:
        return "".join(pieces)
    return _bound(list(_plain(pieces)), (_ANY, _FOLDERS, _STAR), is_last=True)


def _plain(pieces: Iterable[str]) -> Iterable[str]:
    """The same without wildcards beside each other that say the same, and with `**/` inside a name as `**` and `/`."""
    before = "/"
    for piece in pieces:
        if piece == _FOLDERS and before not in ("/", _FOLDERS):
            if before != _ANY:
                yield _ANY
            yield "/"
            before = "/"
        elif piece not in _WILD or piece != before:
            yield piece
            before = piece


def _bound(pieces: Sequence[str], wildcards: Sequence[str], *, is_last: bool) -> str:
    """Cut at the first of the wildcards, the parts at the next; only the last part of all may try further places.

    The nearest place is the best: whatever comes after it has the more to match with.
    """
    if not wildcards:
        return "".join(pieces)
    wild, *narrower = wildcards
    first, *parts = _cut(pieces, wild)
    text = _bound(first, narrower, is_last=is_last and not parts)
    for n, part in enumerate(parts, 1):
        ends = is_last and n == len(parts)
        inner = _bound(part, narrower, is_last=ends)
        text += f"{wild}{inner}" if ends else f"(?>{wild}?{inner})"
    return text


def _cut(pieces: Sequence[str], wild: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for piece in pieces:
        if piece == wild:
            parts.append([])
        else:
            parts[-1].append(piece)
    return parts


def _pieces(pattern: str) -> list[str]:
    pieces, at = [], 0
    while at < len(pattern):
        piece, at = _piece(pattern, at)
        pieces.append(piece)
    return pieces


def _piece(pattern: str, at: int) -> tuple[str, int]:
    """The expression for what stands at this position, and where to go on."""
    if pattern.startswith("**/", at):
        return _FOLDERS, at + 3
    if pattern.startswith("**", at):
        return _ANY, at + 2
    if pattern[at] == "[":
        return _class(pattern, at)
    simple = {"*": _STAR, "?": "[^/]"}
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
