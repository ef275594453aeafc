"""Models that stay loaded between jobs, within a memory budget; the least recently used goes first."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from models.conversion import convert_in_process
from models.engines.base import Engine
from models.engines.keras import visible_gpus
from models.engines.loading import load_engine
from models.errors import InvalidModel, UnknownModel
from models.manifest import ModelVersion
from models.registry import Registry
from store.catalog import find_model
from store.database import Database
from store.rows import ModelRow
from worker.devices import Device, DeviceError
from worker.settings import Settings

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Loaded:
    """A model ready to predict. `safe_batch` is what its batch had to shrink to on this device."""

    version: ModelVersion
    engine: Engine
    safe_batch: int


class WarmModels:
    """A cache of loaded models by their id."""

    def __init__(self, load: Callable[[int], Loaded], budget_bytes: int) -> None:
        self._load = load
        self._budget = budget_bytes
        self._loaded: OrderedDict[int, Loaded] = OrderedDict()

    @property
    def ids(self) -> list[int]:
        """The warm models, most recently used first."""
        return list(reversed(self._loaded))

    @property
    def names(self) -> str:
        """Their references, most recently used first, for people."""
        return ", ".join(loaded.version.reference for loaded in reversed(self._loaded.values()))

    def get(self, model_id: int) -> Loaded:
        """A model, loaded if it was not. Raises ModelError."""
        if model_id in self._loaded:
            self._loaded.move_to_end(model_id)
            return self._loaded[model_id]
        loaded = self._load(model_id)
        self._make_room(loaded.engine.memory_bytes)
        self._loaded[model_id] = loaded
        return loaded

    def _make_room(self, needed: int) -> None:
        while self._loaded and needed + sum(one.engine.memory_bytes for one in self._loaded.values()) > self._budget:
            _, oldest = self._loaded.popitem(last=False)
            log.info("%s goes: the budget of %d MiB is full", oldest.version.reference, self._budget >> 20)
            oldest.engine.close()

    def close(self) -> None:
        """Give every model's memory back."""
        while self._loaded:
            self._loaded.popitem()[1].engine.close()


class Loader:
    """Loads models from the registry of this worker's home."""

    def __init__(self, settings: Settings, device: Device, database: Database) -> None:
        self._settings = settings
        self._device = device
        self._database = database
        self._registry = Registry(settings.models_folder)

    def load(self, model_id: int) -> Loaded:
        """Load a model, converting it first where that was not done yet. Raises ModelError, DeviceError."""
        try:
            row = find_model(self._database, model_id)
        except LookupError as error:
            raise UnknownModel(str(model_id)) from error
        version = self._find(row)
        kind = self._settings.engine
        if kind == "openvino" or (kind == "auto" and self._device.kind == "cpu"):
            self._convert(version)
        engine = load_engine(
            version,
            kind,
            cache_dir=self._settings.cache_folder / "openvino",
            device=self._device.kind,
            precision=self._settings.precision,
        )
        if engine.name == "keras" and self._device.kind == "gpu":
            _check_pinned(self._device)
        log.info("%s is warm: %s, batches of %d", version.reference, engine.name, engine.batch_size)
        return Loaded(version, engine, engine.batch_size)

    def _convert(self, version: ModelVersion) -> None:
        """Make the compiled form. Where OpenVINO cannot express the model, say so once and leave it to Keras."""
        compiled, verdict = version.path / "openvino" / "model.xml", version.path / "openvino" / "impossible.txt"
        if compiled.exists() or (verdict.exists() and self._settings.engine == "auto"):
            return
        log.info("converting %s", version.reference)
        try:
            convert_in_process(version)
        except InvalidModel as error:
            if self._settings.engine != "auto":
                raise
            log.warning("%s is served by Keras: %s", version.reference, error)
            verdict.parent.mkdir(exist_ok=True)
            verdict.write_text(f"{error}\n", encoding="utf-8")

    def _find(self, row: ModelRow) -> ModelVersion:
        version = self._registry.get(row.reference)
        if version.manifest.digest != row.digest:
            raise UnknownModel(f"{row.reference} with the digest {row.digest[:12]}…")
        return version


def _check_pinned(device: Device) -> None:
    """Refuse to compute on the CPU, or on two GPUs, under the name of one."""
    seen = visible_gpus()
    if seen != 1:
        raise DeviceError(f"Expected Keras to see exactly one GPU, {device.visible}; it sees {seen}.")
