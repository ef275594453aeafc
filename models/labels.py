"""Class names: read from a file, checked, and saved in the order of the model's outputs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from models.errors import InvalidModel
from models.imagenet import tell_apart

MAX_FILE_BYTES = 16 * 2**20  # a hundred thousand names of 160 letters
SUFFIXES = (".txt", ".json", ".csv")
NAMES_SHOWN = 5


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names of a file, in output order, checked.

    `.txt`: one name a line. `.json`: a list, or {"0": "cat"}, or {"cat": 0}. `.csv`: columns index and name, with or
    without a header. Raises InvalidModel that names the file and the line or class at fault.
    """
    readers = {".txt": _from_text, ".json": _from_json, ".csv": _from_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidModel(
            f"{path}: class names are read from {', '.join(SUFFIXES)}; got {path.suffix or 'no suffix'!r}."
        )
    return check_labels(tell_apart(list(reader(_text(path), path))), path)


def check_labels(names: Iterable[Any], source: object) -> tuple[str, ...]:
    """The names stripped of outer blanks. Raises InvalidModel where one is empty, no text, or there twice."""
    labels: list[str] = []
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InvalidModel(f"{source}: class {index} needs a name of printable text; got {name!r}.")
        label = name.strip()
        if label in seen:
            raise InvalidModel(
                f"{source}: the class name {label!r} is there twice (classes {seen[label]} and {index}); "
                "every class needs a name of its own."
            )
        seen[label] = index
        labels.append(label)
    if not labels:
        raise InvalidModel(f"{source}: no class names found.")
    return tuple(labels)


def check_count(labels: Sequence[str], classes: int, source: object) -> None:
    """Raises InvalidModel unless there is one name for each of the model's outputs."""
    if len(labels) == classes:
        return
    shown = ", ".join(labels[:NAMES_SHOWN]) + (", …" if len(labels) > NAMES_SHOWN else "")
    raise InvalidModel(f"{source}: the model has {classes} classes, the file names {len(labels)} ({shown}).")


def save_labels(labels: Sequence[str], path: Path) -> None:
    """Write as a JSON list."""
    path.write_text(json.dumps(list(labels), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def load_labels(path: Path) -> tuple[str, ...]:
    """Read back what `save_labels` wrote. Raises InvalidModel for anything else."""
    return read_labels(path)


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InvalidModel(f"{path}: a file of class names has at most {MAX_FILE_BYTES} bytes; got {size}.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidModel(f"{path}: cannot read the class names ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{path}: class names must be UTF-8 text (byte {error.start} is not).") from error


def _from_text(text: str, _path: Path) -> Iterable[Any]:
    # A final line end is not an empty class; an empty line in the middle is one, and is refused with its number.
    return text.rstrip().splitlines()


def _from_json(text: str, path: Path) -> Iterable[Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{path}: not JSON ({error}).") from error
    if isinstance(facts, list):
        return facts
    if isinstance(facts, dict) and facts:
        if all(isinstance(value, int) for value in facts.values()):
            return _in_order([(value, key) for key, value in facts.items()], path)
        return _in_order(list(facts.items()), path)
    raise InvalidModel(f'{path}: expected a list of names, {{"0": "cat"}} or {{"cat": 0}}; got {type(facts).__name__}.')


def _from_csv(text: str, path: Path) -> Iterable[Any]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and rows[0] and not rows[0][0].strip().isdecimal():
        rows = rows[1:]  # a header
    short = next((row for row in rows if len(row) < 2), None)
    if short is not None:
        raise InvalidModel(f"{path}: expected the columns index and name; got the row {short!r}.")
    return _in_order([(row[0].strip(), row[1]) for row in rows], path)


def _in_order(pairs: Sequence[tuple[Any, Any]], path: Path) -> list[Any]:
    """Names by index; the indices must be 0 … n-1, each once."""
    names: dict[int, Any] = {}
    for index, name in pairs:
        if not str(index).isdecimal():
            raise InvalidModel(f"{path}: the class index of {name!r} must be a whole number from 0; got {index!r}.")
        if int(index) in names:
            raise InvalidModel(f"{path}: the class index {index} is there twice ({names[int(index)]!r} and {name!r}).")
        names[int(index)] = name
    missing = next((index for index in range(len(names)) if index not in names), None)
    if missing is not None:
        raise InvalidModel(f"{path}: {len(names)} names need the indices 0 to {len(names) - 1}; {missing} is missing.")
    return [names[index] for index in range(len(names))]
