"""Mutated inputs that are no pictures: manifests, archives of pictures, recipes, model files and their weights.

`python -m tests.chaos.input_front SEED FIRST STOP`: a child for `run_front`. Only the errors that the documents name
may come out; each takes turns, so that number N is always the same file for the same reader.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from models.archive_check import check_archive
from models.bundles import unpack_bundle
from models.errors import ImageError, InvalidModel, InvalidRecipe, ModelRefused
from models.importing import import_keras
from models.labels import read_labels
from models.recipes import check_recipe, make_recipe, read_recipe, write_recipe
from models.registry import Registry
from models.weights_check import check_weights
from tests.chaos.mutations import ANY, splice
from tests.models.keras_files import keras_file, layer, plain_weights, sequential
from tests.pictures import jpeg, png
from worker.reading import Location, Reader
from worker.sources.errors import SourceError
from worker.sources.opening import open_source

MOST_ITEMS = 2000  # looked at in one source
MOST_UNPACKED = 64 << 20
SAMPLE_EVERY = 100
SANDBOXED_OF = 7  # model files that pass the check, for one that is opened: that takes five seconds of a core
REFUSED = (SourceError, ImageError, InvalidModel, ModelRefused, InvalidRecipe)
ODD_VALUES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, 2**63, -(2**70), 1e308, "", "x", "../x", "\0", "\ud800", "{", [], {}, [[]]),
    *({"class_name": "Dense"}, {"class_name": None, "module": 1}, ["Dense", 0, 0], {"": ""}, "keras.layers", "Lambda"),
)


class Reading(NamedTuple):
    """One kind of input: its file's ending, whole examples, and what the product does with it."""

    ending: str
    whole: Sequence[bytes]
    read: Callable[[Path], object]


def kinds() -> Mapping[str, Reading]:
    """Every kind of input by name."""
    recipe = write_recipe(make_recipe("two_phase", base="birds@1", preset=None)).encode()
    manifests = _manifests()
    return {
        **{ending: Reading(f".{ending}", whole, _read_source) for ending, whole in manifests.items()},
        "zip": Reading(
            ".zip", [_zip(zipfile.ZIP_STORED), _zip(zipfile.ZIP_DEFLATED), _zip(zipfile.ZIP_BZIP2)], _read_source
        ),
        "tar": Reading(".tar", [_tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT)], _read_source),
        "tar.gz": Reading(".tar.gz", [gzip.compress(_tar(tarfile.USTAR_FORMAT), 1, mtime=0)], _read_source),
        "recipe": Reading(".toml", [recipe], _read_recipe),
        "labels": Reading(".json", [b'["owl", "tit"]', b'{"0": "owl", "1": "tit"}', b'{"owl": 0}'], read_labels),
        "keras": Reading(".keras", [_keras(), _keras(zipfile.ZIP_DEFLATED)], check_archive),
        "bundle": Reading(".zip", [_bundle()], _read_bundle),
        "weights": Reading(".h5", [_weights()], check_weights),
    }


def _manifests() -> dict[str, list[bytes]]:
    import pyarrow
    import pyarrow.parquet

    rows = [{"file_name": f"a/{n}.jpg", "label": "owl" if n % 2 else None, "split": "train", "n": n} for n in range(40)]
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    csv = "file_name,label\n" + "".join(f'"a/{n}.jpg",owl\n' for n in range(40))
    return {
        "csv": [
            csv.encode(),
            csv.replace(",", ";").encode("utf-8-sig"),
            b"path,job_id,idx,file_name,status\na,1,2,b,ok\n",
        ],
        "jsonl": ["".join(json.dumps(row) + "\n" for row in rows).encode()],
        "parquet": [table.getvalue()],
    }


def _zip(method: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in (("a/one.jpg", jpeg()), ("two.png", png()), ("notes.txt", b"x"), ("folder/", b"")):
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return made.getvalue()


def _tar(kind: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=kind) as archive:
        for name, data in (("a/one.jpg", jpeg()), ("l" * 90 + "/" + "m" * 60 + ".png", png()), ("notes.txt", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a/one.jpg"
        archive.addfile(link)
    return made.getvalue()


def _keras(compression: int = zipfile.ZIP_STORED) -> bytes:
    config = sequential(layer("Flatten"), layer("Dense", units=2, activation="softmax"))
    return _made(lambda path: keras_file(path, config, weights=_whole_weights, compression=compression))


def _whole_weights(file: Any) -> None:
    """So that Keras opens what nobody damaged."""
    plain_weights(file)
    file["layers/dense/vars"].create_dataset("1", data=[0.0, 0.0])


def _weights() -> bytes:
    import h5py

    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        plain_weights(file)
        file.create_dataset("layers/packed", data=[[1.0, 2.0]] * 50, compression="gzip", chunks=(5, 2))
        file["layers"].attrs["names"] = ["dense", "flatten"]
    return made.getvalue()


def _bundle() -> bytes:
    made = io.BytesIO()
    manifest = {
        "format": 1,
        "name": "m",
        "version": 1,
        "output": "logits",
        "classes": 2,
        "created_at": "",
        "files": {},
        "preprocessing": {"width": 8, "height": 8},
    }
    members = {
        "manifest.json": json.dumps(manifest),
        "model.keras": "PK",
        "labels.json": '["a","b"]',
        "probe.npz": "PK",
    }
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return made.getvalue()


def _made(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "m.keras")
        write(path)
        return path.read_bytes()


# What the product does with each


def _read_source(path: Path) -> None:
    """List it, and read what it lists."""
    source = open_source([str(path)], cache_dir=path.parent / "cache", max_unpacked=MOST_UNPACKED)
    with Reader(cache_dir=path.parent / "cache") as reader:
        refused: ImageError | None = None
        for entry in islice(source, MOST_ITEMS):
            place = Location(
                os.fsencode(source.root),
                entry.path,
                source.confined,
                entry.size,
                entry.mtime_ns,
                entry.member,
                entry.offset,
            )
            try:
                reader.read(place)
            except ImageError as error:
                refused = error
        if refused is not None:
            raise refused


def _read_recipe(path: Path) -> None:
    check_recipe(read_recipe(path.read_text(encoding="utf-8", errors="replace"), "recipe.toml"))


def _import_model(path: Path) -> None:
    """The whole way of `pixmill models import`; nothing is left of it."""
    labels = path.with_name("labels.txt")
    labels.write_text("owl\ntit\n")
    import_keras(path, Registry(path.parent / "models"), name="mutant", labels=labels)


def _read_bundle(path: Path) -> None:
    unpack_bundle(path, path.parent / "unpacked")


# Mutants


def mutant(seed: int, number: int, known: Mapping[str, Reading]) -> tuple[str, bytes]:
    """The kind of input that has this number's turn, and its damaged bytes."""
    dice = random.Random(f"inputs:{seed}:{number}")
    kind = list(known)[number % len(known)]
    whole = known[kind].whole
    data = dice.choice(whole)
    for _ in range(dice.choice((1, 1, 2, 3))):
        if not data:
            break
        act = dice.randrange(12)
        if act == 0:
            data = splice(dice, data, dice.choice(whole))
        elif act < 6 and kind in _SURGERY:
            data = _SURGERY[kind](dice, data)
        else:
            data = dice.choice(ANY)(dice, data)
    return kind, data


def _json_node(dice: random.Random, value: Any) -> Any:
    """The value with one thing in it, at any depth, replaced by something odd."""
    if dice.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return dice.choice(ODD_VALUES)
    if isinstance(value, list):
        at = dice.randrange(len(value))
        return [*value[:at], _json_node(dice, value[at]), *value[at + 1 :]]
    key = dice.choice(sorted(value))
    if dice.random() < 0.1:
        return {name: inner for name, inner in value.items() if name != key}
    return {**value, key: _json_node(dice, value[key])}


def _in_zip(dice: random.Random, data: bytes) -> bytes:
    """One member of a zip changed, and all checksums right again: JSON as JSON."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        name = dice.choice(sorted(members))
        if name.endswith(".json") and dice.random() < 0.8:
            members[name] = json.dumps(_json_node(dice, json.loads(members[name]))).encode()
        else:
            members[name] = dice.choice(ANY)(dice, members[name] or b"\0")
    except Exception:  # noqa: BLE001  it is too damaged for that, in whatever way
        return dice.choice(ANY)(dice, data)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def _in_tar(dice: random.Random, data: bytes) -> bytes:
    """A field of some header written over, and its checksum made right."""
    changed = bytearray(data)
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not headers:
        return dice.choice(ANY)(dice, data)
    at = dice.choice(headers)
    place, size = dice.choice(((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (329, 8), (345, 155)))
    new = dice.choice(
        (b"\xff" * size, b"\x80" + b"\0" * (size - 1), b"7" * size, b"-1", b"xgLKSDV"[: size + 6], b"\0" * size)
    )
    changed[at + place : at + place + len(new[:size])] = new[:size]
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    return bytes(changed)


def _in_text(dice: random.Random, data: bytes) -> bytes:
    """Words of the language where they may mean something."""
    words: tuple[bytes, ...] = (
        b'"',
        b"'",
        b",",
        b";",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"[",
        b"{" * 3000,
        b"[" * 3000,
        b"=",
        b".",
        b"1e999",
    )
    words += (b"9" * 5000, b"\\ud800", b"\xef\xbb\xbf", b"a." * 2000, b"0x", b"1979-05-27", b"inf", b"nan", b"\\u0000")
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(words) + data[at + dice.choice((0, 0, 1, 5)) :]


_SURGERY: dict[str, Callable[[random.Random, bytes], bytes]] = {
    **dict.fromkeys(("keras", "bundle"), _in_zip),
    "tar": _in_tar,
    **dict.fromkeys(("csv", "jsonl", "recipe", "labels"), _in_text),
}


def examine(kind: str, reading: Reading, data: bytes) -> tuple[str, str | None]:
    """What became of it, and what is wrong with that."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, f"mutant{reading.ending}")
        path.write_bytes(data)
        try:
            reading.read(path)
        except REFUSED as error:
            words = str(error)
            odd = f"no message for a person: {words[:200]!r}" if not words or "Traceback" in words else None
            return f"{kind} {type(error).__name__}", odd
        except Exception as error:  # noqa: BLE001  what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename][-1]
            where = f"{Path(ours.filename).name}:{ours.lineno}, {Path(frame.filename).name}:{frame.lineno}"
            return f"{kind} unforeseen", f"{kind}: {type(error).__name__}: {str(error)[:200]} ({where})"
    return f"{kind} ok", None


def examine_whole(number: int, known: Mapping[str, Reading], kind: str, data: bytes) -> tuple[str, str | None]:
    """`examine`; and of the model files that pass the check, one of so many goes on into the sandbox."""
    code, odd = examine(kind, known[kind], data)
    if code == "keras ok" and number // len(known) % SANDBOXED_OF == 0:
        return examine("sandboxed", Reading(".keras", (), _import_model), data)
    return code, odd


def main(seed: int, first: int, stop: int) -> None:
    known = kinds()
    for number in range(first, stop):
        kind, data = mutant(seed, number, known)
        begun = time.perf_counter()
        code, odd = examine_whole(number, known, kind, data)
        said = {"number": number, "code": code, "ms": round(1000 * (time.perf_counter() - begun), 1)}
        if (number - first) % SAMPLE_EVERY == 0:
            said["kib"] = psutil.Process().memory_info().rss // 1024
        sys.stdout.write(json.dumps(said | ({"odd": odd} if odd else {})) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
