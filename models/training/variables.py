"""Variables: a network's and an optimizer's as named arrays for a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.errors import InvalidModel


def all_of(model: Any) -> list[Any]:
    """Every variable of a keras.Model once: weights, moving averages, and the random states of its dropouts."""
    return list({id(variable): variable for variable in model.variables}.values())


def read(variables: Sequence[Any], name: str) -> dict[str, NDArray[Any]]:
    """Copies of their values as `name/0`, `name/1`, …: by order, since Keras's names differ between processes."""
    return {f"{name}/{number}": np.array(variable) for number, variable in enumerate(variables)}


def write(variables: Sequence[Any], arrays: Mapping[str, NDArray[Any]], name: str) -> None:
    """Give them what `read` has copied. Raises InvalidModel, and changes none, where number, shape or type differ."""
    found = [arrays.get(f"{name}/{number}") for number in range(len(variables))]
    kept = sum(key.rpartition("/")[0] == name for key in arrays)
    if kept != len(variables):
        raise InvalidModel(f"Expected {len(variables)} variables of this network as {name!r}, got {kept}: {ADVICE}")
    for number, (variable, array) in enumerate(zip(variables, found, strict=True)):
        if array is None or array.shape != tuple(variable.shape) or array.dtype.name != str(variable.dtype):
            came = "none" if array is None else f"{array.dtype.name} {list(array.shape)}"
            expected = f"{variable.dtype} {list(variable.shape)}"
            raise InvalidModel(f"Expected {expected} for {name}/{number} ({variable.path}), got {came}: {ADVICE}")
    for variable, array in zip(variables, found, strict=True):
        variable.assign(array)


ADVICE = "the checkpoint is of another network. Start the training anew, or with the recipe that it was made with."


def reseed(model: Any, seed: int, phase: str) -> None:
    """Give each random state of the network (of its dropouts) a beginning of its own that follows from the seed alone.

    A Keras layer draws its seed when it is built, so it would depend on what else this process has built before: a run
    that was killed between two phases would go on differently.
    """
    weights = {id(variable) for variable in model.weights}
    states = [variable for variable in all_of(model) if id(variable) not in weights]
    for number, state in enumerate(states):
        if tuple(state.shape) == (2,) and "seed" in state.name:
            drawn = np.random.default_rng([seed, crc32(phase.encode()), number]).integers(1, 2**31 - 1)
            state.assign(np.array([drawn, 0], dtype=str(state.dtype)))
