"""How fast the engines are: pictures a second for models of several families, load time, memory and drift.

    python -m bench.engines [--models mobilenet_v2 EfficientNetV2B0 …] [--seconds 3]

`mobilenet_v2` is the real one of the shared data; other names are of keras.applications, with random weights: speed
only. Every figure comes from a process of its own, so that none warms another's caches or counts another's memory.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.conversion import convert_in_process, read_version
from models.engines.base import Engine
from models.engines.keras import KerasEngine
from models.engines.openvino import OpenVINOEngine
from models.images import load_picture
from models.manifest import Manifest, Preprocessing
from models.probe import answer, load_probe, make_probe, measure_drift, save_probe

SHARED = Path(os.environ.get("PIXMILL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
DEFAULT = ("mobilenet_v2", "EfficientNetV2B0", "ResNet50")
QUIET = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def rate(
    predict: Callable[[NDArray[np.uint8]], object], batch: NDArray[np.uint8], threads: int, seconds: float
) -> float:
    """Pictures a second when `threads` threads call `predict` one batch after another."""
    predict(batch)
    counts = [0] * threads
    stop = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < stop:
            predict(batch)
            counts[number] += len(batch)

    started = time.perf_counter()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


def build(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """In a TensorFlow process: make the version, and time Keras's own predict()."""
    keras = importlib.import_module("keras")
    keras.utils.set_random_seed(0)
    if name == "mobilenet_v2":
        model = keras.models.load_model(SHARED / "mobilenet_v2_imagenet.keras", compile=False)
    else:
        family = getattr(keras.applications, name)
        model = family(weights=None)
        if None in model.input_shape[1:]:
            model = family(weights=None, input_shape=(224, 224, 3))
    _, height, width, channels = model.input_shape
    preprocessing = Preprocessing(width, height, channels)
    classes = int(model.output_shape[-1])
    model.save(folder / "model.keras")
    (folder / "labels.json").write_text(json.dumps([f"class {index}" for index in range(classes)]))
    Manifest(name, 1, preprocessing, "probabilities", classes, "2026-01-01T00:00:00+00:00").save(
        folder / "manifest.json"
    )
    probe = make_probe(preprocessing)
    save_probe(folder / "probe.npz", probe, np.asarray(model(probe.astype(np.float32), training=False)))

    pictures = pictures_of(preprocessing, 32).astype(np.float32)
    script = rate(lambda batch: model.predict(batch, batch_size=32, verbose=0), pictures, 1, seconds)  # type: ignore[arg-type]  # untyped Keras
    started = time.perf_counter()
    engine = KerasEngine(read_version(folder))
    return {"keras predict()": script, **measure(engine, preprocessing, seconds, time.perf_counter() - started)}


def run_openvino(folder: Path, precision: Any, seconds: float) -> dict[str, Any]:
    """In a process without TensorFlow: time the compiled form."""
    version = read_version(folder)
    started = time.perf_counter()
    engine = OpenVINOEngine(version, precision=precision)
    found = measure(engine, version.manifest.preprocessing, seconds, time.perf_counter() - started)
    images, expected = load_probe(folder / "probe.npz")
    return {**found, "drift": measure_drift(*answer(engine, images), expected).ratio}


def measure(engine: Engine, preprocessing: Preprocessing, seconds: float, load_s: float) -> dict[str, Any]:
    """What is printed of an engine."""
    pictures = pictures_of(preprocessing, engine.batch_size)
    speed = rate(engine.predict, pictures, engine.parallel, seconds)
    started = time.perf_counter()
    engine.predict(pictures[:1])
    one_s = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"rate": speed, "one_ms": one_s * 1000, "load_s": load_s, "peak_mb": peak, "batch": engine.batch_size}


def pictures_of(preprocessing: Preprocessing, count: int) -> NDArray[np.uint8]:
    return make_probe(preprocessing, n=count, seed=9)


def in_process(*arguments: str) -> dict[str, Any]:
    """Run one of the roles above in a new interpreter."""
    command = [sys.executable, "-m", "bench.engines", "--role", *arguments]
    done = subprocess.run(command, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    answered: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answered


def report(name: str, seconds: float) -> None:
    """All rows of one model."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        keras = in_process("keras", name, home, str(seconds))
        conversion = convert_in_process(read_version(folder))
        print(f"\n{name}: converted in {conversion.duration_s} s, float32 drift {conversion.drift:.2g}")
        print(f"  {'Keras predict(), batch 32':28s} {keras['keras predict()']:7.0f} img/s")
        rows = [("KerasEngine", keras)]
        rows += [
            (f"OpenVINOEngine {precision}", in_process("openvino", home, precision, str(seconds)))
            for precision in ("f32", "bf16")
        ]
        for title, row in rows:
            name_and_batch = f"{title}, batch {row['batch']}"
            drift = f", drift {row['drift']:.2g}" if "drift" in row else ""
            print(
                f"  {name_and_batch:28s} {row['rate']:7.0f} img/s, one picture {row['one_ms']:.0f} ms, "
                f"load {row['load_s']:.2f} s, peak {row['peak_mb']} MB{drift}"
            )


def report_decoding() -> None:
    """Milliseconds for a photograph, on one thread and on two."""
    with tarfile.open(SHARED / "imagenet200.tar") as archive:
        files = [extracted.read() for member in archive if (extracted := archive.extractfile(member)) is not None]
    preprocessing = Preprocessing()
    print("\nload_picture(), 200 photographs to 224×224")
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda data: load_picture(data, preprocessing), files[:20]))
            started = time.perf_counter()
            list(pool.map(lambda data: load_picture(data, preprocessing), files))
            print(f"  {threads} thread(s): {(time.perf_counter() - started) / len(files) * 1000:.2f} ms a picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=DEFAULT)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    said = parser.parse_args()
    match said.role:
        case ["keras", name, folder, seconds]:
            print(json.dumps(build(name, Path(folder), float(seconds))))
        case ["openvino", folder, precision, seconds]:
            print(json.dumps(run_openvino(Path(folder), precision, float(seconds))))
        case _:
            for name in said.models:
                report(name, said.seconds)
            report_decoding()


if __name__ == "__main__":
    main()
