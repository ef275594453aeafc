"""Chooses and loads the engine of a model version, and lets it serve only if it still answers its probe."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from models.engines.base import Engine
from models.engines.fake import FakeEngine
from models.engines.keras import KerasEngine
from models.engines.openvino import OpenVINOEngine, Precision
from models.errors import ModelRefused
from models.manifest import ModelVersion
from models.probe import check_probe

Kind = Literal["auto", "openvino", "keras", "fake"]


def load_engine(
    version: ModelVersion,
    kind: Kind = "auto",
    *,
    cache_dir: Path | None = None,
    device: str = "cpu",
    precision: Precision = "auto",
) -> Engine:
    """Load a version's engine. "auto" is OpenVINO on the CPU where the compiled form is there, else Keras.

    `cache_dir`: for what OpenVINO compiled. `precision`: "auto" is bfloat16 where the processor has it and the probe
    allows it, else float32. Raises ModelRefused, with the difference shown, where the probe's answers drifted;
    InvalidModel where files are unusable.
    """
    if kind == "fake":
        return FakeEngine(version.labels)
    if kind == "keras" or (kind == "auto" and not (device == "cpu" and _is_compiled(version))):
        return _checked(KerasEngine(version, device=device), version)
    *earlier, last = _attempts(precision, cache_dir)
    for chosen, cache in earlier:
        try:
            return _checked(OpenVINOEngine(version, precision=chosen, cache_dir=cache), version)
        except ModelRefused:
            continue
    return _checked(OpenVINOEngine(version, precision=last[0], cache_dir=last[1]), version)


def _is_compiled(version: ModelVersion) -> bool:
    return (version.path / "openvino" / "model.xml").is_file()


def _attempts(precision: Precision, cache_dir: Path | None) -> Iterator[tuple[Precision, Path | None]]:
    """What to try when the probe refuses: first without the cache, which may be damaged, then without bfloat16."""
    yield precision, cache_dir
    if cache_dir is not None:
        yield precision, None
    if precision == "auto":
        yield "f32", None


def _checked(engine: Engine, version: ModelVersion) -> Engine:
    """The engine, or ModelRefused and its memory given back."""
    try:
        check_probe(engine, version)
    except ModelRefused:
        engine.close()
        raise
    return engine
