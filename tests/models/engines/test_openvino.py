"""What only the OpenVINO engine has: a light process, a cache, a compiled form that may be damaged."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.engines.base import Batch, Indices, Scores
from models.engines.openvino import OpenVINOEngine, _Slot
from models.errors import EngineError, EngineOutOfMemory, InvalidModel
from models.manifest import ModelVersion

BLACK = np.zeros((2, 32, 32, 3), np.uint8)

LIGHT = """
import json, sys
from pathlib import Path
from models.conversion import read_version
from models.engines.loading import load_engine
from models.probe import load_probe
version = read_version(Path(sys.argv[1]))
engine = load_engine(version)
engine.predict(load_probe(version.path / "probe.npz")[0])
# Not getrusage(): its peak is the parent's too, as it stood when this process was forked.
peak = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([engine.name, sorted({name.partition(".")[0] for name in sys.modules}), sorted(sys.modules), peak]))
"""


@pytest.fixture
def engine(small_version: Callable[[str], ModelVersion]) -> Iterator[OpenVINOEngine]:
    made = OpenVINOEngine(small_version("rgb"))
    yield made
    made.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_its_process_has_no_keras_reports_nothing_home_and_is_small(
    small_version: Callable[[str], ModelVersion], tmp_path: Path
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", LIGHT, str(small_version("rgb").path)],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    name, packages, modules, peak = json.loads(said.stdout)
    assert name == "openvino"
    assert said.stderr == ""
    assert {"keras", "tensorflow", "jax", "torch", "sqlalchemy", "celery"}.isdisjoint(packages)
    # The real telemetry package has modules below it, sends events, and writes a client number into the home folder.
    assert not [module for module in modules if module.startswith("openvino_telemetry.")]
    assert list(tmp_path.iterdir()) == []
    assert peak[0] < 300_000  # kB


def test_its_converter_reports_nothing_either(tmp_path: Path) -> None:
    code = (
        "import sys; from models.engines.openvino import import_converter, import_openvino\n"
        "import_openvino(); print(callable(import_converter()))\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "[]"]
    assert list(tmp_path.iterdir()) == []


def test_the_last_dense_layer_answers_in_float32_also_in_bfloat16(small_version: Callable[[str], ModelVersion]) -> None:
    """Else logits would come in steps of 1/16, and classes tie."""
    engine = OpenVINOEngine(small_version("rgb"), precision="bf16")
    nodes = engine._compiled.get_runtime_model().get_ordered_ops()
    dense = [node for node in nodes if node.get_rt_info()["layerType"].astype(str) == "FullyConnected"]
    assert len(dense) == 2
    assert dense[-1].output(0).get_element_type().get_type_name() == "f32"
    engine.close()


def test_a_cache_makes_no_difference_to_the_answers(own_version: ModelVersion, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    answers = []
    for turn in range(3):
        engine = OpenVINOEngine(own_version, cache_dir=tmp_path / "cache")
        assert engine._compiled.get_property("LOADED_FROM_CACHE") == (turn == 1)
        answers.append(engine.predict(images))
        engine.close()
        (blob,) = (tmp_path / "cache").glob("*.blob")
        if turn == 1:  # as a process killed while it wrote would leave it
            blob.chmod(0o600)
            blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])
    for later in answers[1:]:
        np.testing.assert_array_equal(later[0], answers[0][0])
        np.testing.assert_array_equal(later[1], answers[0][1])


@pytest.mark.parametrize("damage", ["no folder", "no weights", "half the weights", "no graph"])
def test_a_damaged_compiled_form_is_an_invalid_model(own_version: ModelVersion, damage: str) -> None:
    graph, weights = own_version.path / "openvino" / "model.xml", own_version.path / "openvino" / "model.bin"
    match damage:
        case "no folder":
            graph.unlink()
            weights.unlink()
        case "no weights":
            weights.unlink()
        case "half the weights":
            weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        case "no graph":
            graph.write_text("<net/>")
    with pytest.raises(InvalidModel, match="OpenVINO cannot load the compiled form of rgb@1"):
        OpenVINOEngine(own_version)


def test_a_manifest_of_another_size_is_an_invalid_model(own_version: ModelVersion) -> None:
    manifest = own_version.manifest
    other = replace(manifest, preprocessing=replace(manifest.preprocessing, width=64))
    with pytest.raises(InvalidModel):
        OpenVINOEngine(replace(own_version, manifest=other))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (MemoryError(), EngineOutOfMemory),
        (RuntimeError("std::bad_alloc"), EngineOutOfMemory),
        (RuntimeError("Check 'x' failed"), EngineError),
    ],
)
def test_a_failed_batch_does_not_cost_the_next_one(
    engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type[EngineError]
) -> None:
    def fail(_slot: _Slot, _batch: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(_Slot, "run", fail)
        for _ in range(2 * engine.parallel):  # more often than there are requests: each must come back
            with pytest.raises(EngineError) as caught:
                engine.predict(BLACK)
            assert type(caught.value) is kind
    engine.predict(BLACK)


def test_closing_waits_for_batches_under_way_and_turns_away_those_that_come(
    engine: OpenVINOEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Semaphore(0), threading.Event()
    run = _Slot.run

    def slow(slot: _Slot, batch: Batch) -> tuple[Indices, Scores]:
        started.release()
        assert go_on.wait(30)
        return run(slot, batch)

    monkeypatch.setattr(_Slot, "run", slow)
    outcomes: list[str] = []
    workers = [threading.Thread(target=predict_and_note, args=(engine, outcomes)) for _ in range(engine.parallel)]
    start(workers)
    assert all(started.acquire(timeout=30) for _ in workers)
    closing = threading.Thread(target=engine.close)
    closing.start()
    go_on.set()
    end([*workers, closing])
    assert outcomes == ["answered"] * engine.parallel

    late = [threading.Thread(target=predict_and_note, args=(engine, outcomes)) for _ in range(3)]
    start(late)
    end(late)
    assert outcomes[engine.parallel :] == ["turned away"] * 3


def predict_and_note(engine: OpenVINOEngine, outcomes: list[str]) -> None:
    try:
        engine.predict(BLACK)
    except EngineError:
        outcomes.append("turned away")
    else:
        outcomes.append("answered")


def start(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.start()


def end(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
