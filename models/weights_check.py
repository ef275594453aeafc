"""Static checks on the HDF5 weights of a `.keras` file: plain numbers only, and no more of them than the file holds.

HDF5 can point outside itself (external and virtual datasets, external and soft links) and can declare terabytes in a
few bytes; each of these has been a hole in Keras. Run in the sandbox: the HDF5 library itself parses what a stranger
wrote.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from models.errors import InvalidModel

MAX_OBJECTS = 200_000  # groups and datasets; the largest Keras application has 5,000
MAX_DEPTH = 64
MAX_DECLARED = 1.1  # times the file's size
PLAIN_KINDS = "fiub"  # float, signed, unsigned, bool
NUMBERS_OF_KERAS = "V"  # bfloat16 and float8 are opaque bytes in HDF5


def check_weights(path: Path) -> None:
    """Raises InvalidModel where the file holds anything but plain datasets of numbers in groups."""
    try:
        with h5py.File(path, "r") as file:
            declared = _Walk(path, file).declared_bytes(file)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InvalidModel(f"{path.name}: not a readable HDF5 file ({error}); save the model again.") from error
    size = path.stat().st_size
    if declared > MAX_DECLARED * size:
        raise InvalidModel(
            f"{path.name}: declares {declared} bytes of weights, the file has {size}; refused as an HDF5 bomb."
        )


class _Walk:
    """One pass over every object of a file, never following a link that leaves its group."""

    def __init__(self, path: Path, root: h5py.File) -> None:
        self.name = path.name
        self.seen = {h5py.h5o.get_info(root.id).addr}

    def declared_bytes(self, group: h5py.Group, depth: int = 0) -> int:
        if depth > MAX_DEPTH:
            raise InvalidModel(f"{self.name}: groups are nested more than {MAX_DEPTH} deep.")
        return sum(self._declared(group, name, depth) for name in group)

    def _declared(self, group: h5py.Group, name: str, depth: int) -> int:
        where = f"{self.name}: {group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise InvalidModel(f"{where} is a {type(link).__name__}, which can point at other files; refused.")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in self.seen:
            raise InvalidModel(f"{where} is the same object as another; refused.")
        self.seen.add(address)
        if len(self.seen) > MAX_OBJECTS:
            raise InvalidModel(f"{self.name}: more than {MAX_OBJECTS} groups and datasets.")
        if isinstance(item, h5py.Group):
            return self.declared_bytes(item, depth + 1)
        return self._dataset_bytes(item, where)

    def _dataset_bytes(self, item: object, where: str) -> int:
        if not isinstance(item, h5py.Dataset):
            raise InvalidModel(f"{where} is a {type(item).__name__}; expected groups and datasets only.")
        if item.is_virtual or item.external:
            raise InvalidModel(f"{where} takes its numbers from other files; refused.")
        if item.dtype.kind not in PLAIN_KINDS + NUMBERS_OF_KERAS or item.dtype.hasobject:
            raise InvalidModel(f"{where} holds {item.dtype}; expected numbers.")
        if item.shape is None:
            raise InvalidModel(f"{where} holds nothing; expected numbers.")
        return int(item.nbytes)
