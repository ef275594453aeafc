"""File names are bytes; SQL text is not. Names that are not UTF-8 keep their bytes in a column of their own."""


def to_columns(name: bytes) -> tuple[str, bytes | None]:
    r"""The readable text of a name, and its bytes where the text does not say it all.

    Bytes that are not UTF-8 show as `\xe9`; NUL, which no file name holds but a bad manifest might, as `\x00`.
    """
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8", "backslashreplace").replace("\x00", "\\x00"), name
    if "\x00" in text:
        return text.replace("\x00", "\\x00"), name
    return text, None


def from_columns(text: str, raw: bytes | None) -> bytes:
    """The name's bytes."""
    return raw if raw is not None else text.encode("utf-8")
