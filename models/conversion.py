"""Makes a version's compiled form for OpenVINO, and lets it serve only if it answers the probe as Keras does.

It runs in a process of its own, `python -m models.conversion FOLDER`: TensorFlow is large, and stays in the process
that imported it. Keras → SavedModel → `openvino.convert_model`: Keras's own OpenVINO exporter gave a graph of
EfficientNetV2B0 that is three times slower.
"""

import importlib
import json
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.children import Child, Progress, answer_with, bare_environment
from models.engines.openvino import OpenVINOEngine, import_converter, import_openvino
from models.errors import InvalidModel, ModelError
from models.labels import load_labels
from models.manifest import Manifest, ModelVersion
from models.probe import (
    TOLERANCE_FLOAT32,
    Drift,
    Pictures,
    Probabilities,
    answer,
    describe,
    load_probe,
    measure_drift,
)

TIMEOUT_S = 600.0
_FRONTEND_FAILURES = ("GeneralFailure", "NotImplementedFailure", "OpConversionFailure", "OpValidationFailure")


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """How it went. `drift`, `difference`: between the compiled form and Keras, both float32 (models.probe.Drift)."""

    reference: str
    drift: float
    difference: float
    weights_bytes: int
    duration_s: float
    openvino: str


def convert_in_process(version: ModelVersion, timeout_s: float = TIMEOUT_S) -> ConversionReport:
    """Convert in a child process. Raises InvalidModel with its last words; two at once do no harm, one of them wins."""
    with tempfile.TemporaryDirectory(prefix="pixmill-convert-") as home:
        child = Child("models.conversion", Path(home), bare_environment(Path(home)), timeout_s)
        answer = child.ask({"folder": str(version.path.resolve())})
    return ConversionReport(**answer)


def convert(version: ModelVersion) -> ConversionReport:
    """Convert in this process, which must run Keras on TensorFlow. Writes `openvino/` into the version's folder.

    Raises InvalidModel where Keras cannot open the model, OpenVINO cannot express it, or the two do not agree.
    """
    return install(version, lambda scratch: _graph(version, import_openvino(), scratch / "saved_model"))


def install(version: ModelVersion, make: Callable[[Path], Any]) -> ConversionReport:
    """Put the graph that `make` gives into the version's folder as `openvino/`, if it answers the probe as Keras did.

    `make` is given a folder for what it needs on the way. Raises InvalidModel above the tolerance, and what `make`
    raises; nothing is left behind then.
    """
    started = time.monotonic()
    images, expected = load_probe(version.path / "probe.npz")
    openvino = import_openvino()
    # Beside the version's own files, so that the finished folder is put in place by a rename.
    aside = version.path / f".openvino-{secrets.token_hex(4)}"
    try:
        (aside / "openvino").mkdir(parents=True)
        openvino.save_model(make(aside), aside / "openvino" / "model.xml", compress_to_fp16=False)
        drift = _parity(replace(version, path=aside), images, expected)
        report = ConversionReport(
            reference=version.reference,
            drift=drift.ratio,
            difference=drift.difference,
            weights_bytes=(aside / "openvino" / "model.bin").stat().st_size,
            duration_s=round(time.monotonic() - started, 2),
            openvino=str(openvino.get_version()),
        )
        (aside / "openvino" / "report.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
        _put_in_place(aside / "openvino", version.path / "openvino")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return report


def _graph(version: ModelVersion, openvino: Any, saved_model: Path) -> Any:
    """The serving graph in OpenVINO's form, its outputs named, its scores float32 whatever comes before them."""
    backend = importlib.import_module("keras").backend.backend()
    if backend != "tensorflow":
        raise InvalidModel(f"conversion needs KERAS_BACKEND=tensorflow, got {backend}")
    serving = importlib.import_module("models.engines.serving")
    model = serving.serving_model(version, serving.load_keras(version))
    model.export(saved_model, format="tf_saved_model", verbose=False)
    frontend = importlib.import_module("openvino.frontend")
    # What the frontend raises descends from Exception alone, each by itself.
    inexpressible = tuple(getattr(frontend, name) for name in _FRONTEND_FAILURES)
    try:
        graph = import_converter()(saved_model)
    except (RuntimeError, *inexpressible) as error:
        message = f"{version.reference}: OpenVINO cannot express this model; use the Keras engine: {error}"
        raise InvalidModel(message) from error
    for output in graph.outputs:
        name = "indices" if output.get_element_type().is_integral() else "scores"
        output.get_tensor().set_names({name})
    keep_logits_float32(graph, openvino)
    return graph


def keep_logits_float32(graph: Any, openvino: Any) -> None:
    """Put a clamp that clamps nothing between the last dense layer and its softmax.

    In bfloat16 the CPU plugin leaves what follows the last matrix product in float32, but rounds that product itself:
    logits around 10 then come in steps of 1/16, and classes tie. A fused operation that belongs to the float32 tail
    makes the product's result float32 at no cost. Measured on MobileNetV2, 200 photographs: agreement with float32
    from 0.985 to 0.990, no ties.
    """
    top = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "TopK")
    softmax = top.input_value(0).get_node()
    if softmax.get_type_name() == "Softmax":
        logits = openvino.opset13.clamp(softmax.input_value(0), -1e6, 1e6)
        softmax.input(0).replace_source_output(logits.output(0))
        graph.validate_nodes_and_infer_types()


def _parity(version: ModelVersion, images: Pictures, expected: Probabilities) -> Drift:
    """How far the compiled form is from Keras, both in float32. Raises InvalidModel above the tolerance."""
    engine = OpenVINOEngine(version, batch_size=len(images), precision="f32")
    drift = measure_drift(*answer(engine, images), expected)
    engine.close()
    if drift.flipped or not drift.ratio <= TOLERANCE_FLOAT32:
        raise InvalidModel(
            f"{version.reference}: the compiled form does not answer as Keras does; use the Keras engine. "
            f"{describe(drift, version, TOLERANCE_FLOAT32)}"
        )
    return drift


def _put_in_place(made: Path, place: Path) -> None:
    """Rename; where another process was quicker, its result is as good as ours."""
    try:
        made.rename(place)
    except OSError:
        if not (place / "model.xml").is_file():
            raise


def read_version(folder: Path) -> ModelVersion:
    """The model version in a folder. Raises InvalidModel where its manifest or labels are missing or unreadable."""
    try:
        manifest = Manifest.load(folder / "manifest.json")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidModel(f"{folder}: expected the folder of a model version: {error}") from error
    return ModelVersion(folder, manifest, load_labels(folder / "labels.json"))


def _work(request: Mapping[str, Any], _progress: Progress) -> Mapping[str, Any]:
    return asdict(convert(read_version(Path(request["folder"]))))


def main(arguments: list[str]) -> int:
    """`python -m models.conversion FOLDER` for a person; without a folder, the request comes on standard input."""
    if not arguments:
        answer_with(_work)
        return 0
    try:
        sys.stdout.write(json.dumps(_work({"folder": arguments[0]}, print), indent=2) + "\n")
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
