"""The child that fetches a preset by its library's own loading code: `python -m models.fetching`."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import kagglehub.exceptions
import keras
import numpy as np
import requests

from models.children import Progress, answer_with
from models.errors import HubUnreachable, InvalidModel
from models.imagenet import CLASSES, index_path
from models.presets import Pixels, Preset, find_preset

# Mean and deviation of ImageNet's pixels as in keras.applications.imagenet_utils: RGB 0–1 (mode "torch"), BGR 0–255
# ("caffe").
MEAN_01, DEVIATION_01 = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN_255_BGR = (103.939, 116.779, 123.68)

BUSY_CPU_S = 0.1  # of computing between two looks shows that the process is not merely waiting


class _Stalled(Exception):
    """Nothing has come for too long. Not an OSError: requests would call that a time limit of its own."""


UNREACHABLE = (
    requests.RequestException,
    kagglehub.exceptions.BackendError,
    kagglehub.exceptions.CredentialError,
    kagglehub.exceptions.DataCorruptionError,
    kagglehub.exceptions.UnauthenticatedError,
    ConnectionError,
    TimeoutError,
    _Stalled,
)


def fetch(request: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
    """Load a preset, put the pixel layers in front, save it as a `.keras` file.

    request: `preset`, `file` (where to save), `stall_s`. Answers `handle` (what was loaded) and `scale` (what the
    saved model takes).
    """
    preset = find_preset(request["preset"])
    progress(f"fetching {preset.name} (about {preset.download_mb} MB, unless it is in the cache)")
    load = _load_keras_cv if preset.source == "keras_cv" else _load_application
    handle = _handle(preset)
    with _reaching_the_hub(preset, handle, request["stall_s"]):
        network, scale = load(preset)
        if not index_path().is_file():
            # Keras's only public door to the class names; it fetches the file and checks its hash.
            keras.applications.imagenet_utils.decode_predictions(np.zeros((1, CLASSES), np.float32))
    with_pixels(network, preset).save(request["file"])
    return {"handle": handle, "scale": scale}


def with_pixels(network: Any, preset: Preset) -> Any:
    """The network behind the layers that turn RGB 0–255 of the preset's size into what it wants."""
    picture = keras.Input((preset.preprocessing.height, preset.preprocessing.width, 3), name="picture")
    return keras.Model(picture, network(wanted_pixels(picture, preset.pixels)), name=preset.name)


def wanted_pixels(pixels: Any, wanted: Pixels) -> Any:
    """RGB 0–255 as the network wants it, in layers; equal to the `preprocess_input` of its Keras application."""
    if wanted == "-1-1":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    if wanted == "imagenet":
        scale = [1 / (255 * deviation) for deviation in DEVIATION_01]
        offset = [-mean / deviation for mean, deviation in zip(MEAN_01, DEVIATION_01, strict=True)]
        return keras.layers.Rescaling(scale, offset=offset)(pixels)
    if wanted == "imagenet-bgr":
        return keras.layers.Rescaling(1.0, offset=[-mean for mean in MEAN_255_BGR])(keras.ops.flip(pixels, axis=-1))
    return pixels


def _handle(preset: Preset) -> str:
    """What the library will look for, in its own words."""
    if preset.source == "keras_cv":
        return str(_classifier().presets[preset.loads]["kaggle_handle"])
    return f"keras.applications.{preset.loads}(weights='imagenet')"


def _load_keras_cv(preset: Preset) -> tuple[Any, str]:
    """KerasCV's networks take 0–255 where they include their own rescaling, and 0–1 where not."""
    network = _classifier().from_preset(preset.loads)
    rescales = network.backbone.get_config().get("include_rescaling", True)
    return network, "0-255" if rescales else "0-1"


def _load_application(preset: Preset) -> tuple[Any, str]:
    return getattr(keras.applications, preset.loads)(weights="imagenet"), "0-255"


def _classifier() -> Any:
    """KerasCV is loaded only for its own presets: it brings TensorFlow's data sets with it."""
    return importlib.import_module("keras_cv").models.ImageClassifier


@contextmanager
def _reaching_the_hub(preset: Preset, handle: str, stall_s: float) -> Iterator[None]:
    """Turn every way in which a download fails, a stalled one too, into HubUnreachable."""
    try:
        with _stall_watch(stall_s):
            yield
    except UNREACHABLE as error:
        raise HubUnreachable(_advice(preset, handle, error)) from error
    except Exception as error:
        # Keras's get_file raises this very class, with these words, when a download fails.
        if "URL fetch failure" in str(error):
            raise HubUnreachable(_advice(preset, handle, error)) from error
        raise InvalidModel(
            f"{preset.name}: what is in the cache cannot be loaded ({str(error)[:300]}); delete it there "
            f"({_places()}) and pull again."
        ) from error


@contextmanager
def _stall_watch(stall_s: float) -> Iterator[None]:
    """Raise _Stalled in the main thread where for `stall_s` no byte came into the caches and nothing was computed.

    The libraries set no time limits of their own, so a hub that accepts the call and says nothing would hold us for
    ever.
    """
    activity = _Activity(_caches())

    def look(_signal: int, _frame: FrameType | None) -> None:
        if activity.idle_s() > stall_s:
            raise _Stalled(f"no byte came for {stall_s:.0f} s")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class _Activity:
    """Since when nothing has happened: no byte in the caches, no computing."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self.since = time.monotonic()
        self.cached_bytes, self.cpu_s = self._cached_bytes(), time.process_time()

    def idle_s(self) -> float:
        cached_bytes, cpu_s = self._cached_bytes(), time.process_time()
        if cached_bytes != self.cached_bytes or cpu_s - self.cpu_s > BUSY_CPU_S:
            self.since = time.monotonic()
        self.cached_bytes, self.cpu_s = cached_bytes, cpu_s
        return time.monotonic() - self.since

    def _cached_bytes(self) -> int:
        files = (path for folder in self.folders for path in folder.rglob("*"))
        return sum(path.stat().st_size for path in files if path.is_file())


def _caches() -> Sequence[Path]:
    kaggle = os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub"
    return [Path(kaggle), index_path().parent]


def _places() -> str:
    return " or ".join(str(folder) for folder in _caches())


def _advice(preset: Preset, handle: str, error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return (
        f"{preset.name} could not be fetched: {said[:600]}\n"
        f"Tried: {handle}. It is not in the cache either ({_places()}).\n"
        f"Where there is internet: pixmill models pull {preset.name} && pixmill models export {preset.name} "
        f"{preset.name}.zip\n"
        f"Then here: pixmill models import {preset.name}.zip"
    )


if __name__ == "__main__":
    answer_with(fetch)
