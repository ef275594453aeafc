"""The 1,000 class names of ImageNet, as Keras knows them: from the Keras cache, or fetched into it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import InvalidModel

CLASSES = 1000
INDEX_FILE = "imagenet_class_index.json"  # {"0": ["n01440764", "tench"], …}, the name that Keras gives it in its cache

# ImageNet has two kinds of crane and two of maillot, at these indices; everything that goes by label must tell them
# apart.
TWINS = {
    (134, 517): ("crane (bird)", "crane (machine)"),
    (638, 639): ("maillot", "maillot (tank suit)"),
}


def class_names(keras_home: Path | None = None) -> tuple[str, ...]:
    """ImageNet's class names in output order, from the file that Keras keeps in its cache.

    A file that is there is taken as it is (like Keras's own weights that carry no hash) but must have the right form.
    Raises InvalidModel where it is missing or has another form; `models.pulling` fetches it.
    """
    path = index_path(keras_home)
    if not path.is_file():
        raise InvalidModel(
            f"ImageNet's class names are not here ({path}). Pull any preset once (`pixmill models presets` lists "
            "them), or give a "
            "file of the 1,000 names with --labels."
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return tuple(tell_apart([_name(index[str(number)]) for number in range(CLASSES)]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidModel(
            f'{path}: expected 1,000 entries like "0": ["n01440764", "tench"] ({error!r}); delete it and pull again.'
        ) from error


def index_path(keras_home: Path | None = None) -> Path:
    """Where Keras keeps the class names: `$KERAS_HOME/models`, by default `~/.keras/models`."""
    home = keras_home or Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return home / "models" / INDEX_FILE


def tell_apart(names: Sequence[Any]) -> list[Any]:
    """The names with ImageNet's two pairs of twins made different; any other list comes back as it is."""
    apart = list(names)
    if len(apart) == CLASSES:
        for (first, second), both in TWINS.items():
            if apart[first] == apart[second] == both[0].split(" ", maxsplit=1)[0]:
                apart[first], apart[second] = both
    return apart


def _name(entry: Any) -> str:
    _wordnet_id, name = entry
    if not isinstance(name, str):
        raise TypeError(f"class name {name!r}")
    return name
