"""Model files on their way into the registry: the whole way, with Keras, the sandbox and the compiled form."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from models.children import Child, bare_environment
from models.engines.openvino import OpenVINOEngine
from models.errors import InvalidModel, ModelRefused
from models.files import facts_of
from models.images import load_picture
from models.importing import import_any, import_bundle, import_keras
from models.labels import read_labels
from models.manifest import ModelVersion, Preprocessing
from models.probe import load_probe, save_probe
from models.registry import Registry
from models.wishes import NO_RESCALING, Overrides
from tests.models.keras_files import keras_file, layer, sequential

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("importing")


@pytest.fixture(scope="module")
def registry(home: Path) -> Registry:
    return Registry(home / "models")


@pytest.fixture(scope="module")
def file(home: Path) -> Path:
    """A model file of five classes, made by Keras."""
    request = {"folder": str(home), "kinds": ["no rescaling", "not for OpenVINO"]}
    Child("tests.models.keras_zoo", home, bare_environment(home), 200.0).ask(request)
    return (home / "no rescaling.keras").rename(home / "My Birds.keras")


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def imported(file: Path, registry: Registry, told: list[str]) -> ModelVersion:
    file.with_name("My Birds_labels.txt").write_text("owl\ntit\nwren\nrook\njay\n")
    overrides = Overrides(crop="squash", interpolation="bicubic")
    return import_keras(file, registry, overrides=overrides, progress=told.append)


def test_an_imported_file_is_a_complete_version_under_its_cleaned_name(
    imported: ModelVersion, registry: Registry
) -> None:
    assert imported.reference == "my_birds@1"
    assert imported.labels == ("owl", "tit", "wren", "rook", "jay")
    kept = {"model.keras", "labels.json", "probe.npz"}
    assert set(imported.manifest.files) == kept
    assert {entry.name for entry in imported.path.iterdir()} == {*kept, "manifest.json", "card.md", "openvino"}
    registry.verify(imported)
    assert registry.get("my_birds").manifest == imported.manifest


def test_what_was_said_is_in_the_preprocessing_and_the_rest_is_the_models_own(imported: ModelVersion) -> None:
    expected = Preprocessing(width=32, height=32, channels=3, crop="squash", interpolation="bicubic", scale="0-255")
    assert imported.manifest.preprocessing == expected
    assert imported.manifest.output == "probabilities"
    assert imported.manifest.lineage["overrides"] == {"crop": "squash", "interpolation": "bicubic"}


def test_the_lineage_says_which_file_it_was(imported: ModelVersion, file: Path) -> None:
    assert imported.manifest.lineage["file"] == "My Birds.keras"
    assert imported.manifest.lineage["sha256"] == facts_of(file)["sha256"]


def test_a_model_without_rescaling_comes_with_a_note(imported: ModelVersion, told: list[str]) -> None:
    assert imported.manifest.lineage["notes"] == [NO_RESCALING]
    assert f"note: {NO_RESCALING}" in told
    assert NO_RESCALING in (imported.path / "card.md").read_text()


def test_the_compiled_form_answers_the_probe_as_keras_did(imported: ModelVersion) -> None:
    images, expected = load_probe(imported.path / "probe.npz")
    engine = OpenVINOEngine(imported, batch_size=len(images), precision="f32")
    indices, scores = engine.predict(images)
    engine.close()
    assert np.take_along_axis(expected, indices, axis=1) == pytest.approx(scores, abs=1e-3)


def test_nothing_is_left_behind_but_the_version(imported: ModelVersion, registry: Registry) -> None:
    assert list((registry.root / ".staging").iterdir()) == []
    assert imported.path.stat().st_mode & 0o777 == 0o755


def test_a_link_that_the_child_left_is_not_followed(
    file: Path, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")

    def ask(child: Child, *_request: object) -> dict[str, list[str]]:
        (child.folder / "version").mkdir()
        (child.folder / "version" / "card.md").symlink_to(precious)
        return {"notes": []}

    monkeypatch.setattr(Child, "ask", ask)
    with pytest.raises(InvalidModel, match="plain files"):
        import_keras(file, registry)
    assert precious.read_text() == "mine"


def test_a_model_that_openvino_cannot_express_is_registered_without_a_compiled_form(
    file: Path, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("owl\ntit\nwren\n")
    version = import_keras(file.with_name("not for OpenVINO.keras"), registry, labels=tmp_path / "labels.txt")
    [note] = version.manifest.lineage["notes"]
    assert note.startswith("no compiled form: not_for_openvino@1: OpenVINO cannot express")
    assert not (version.path / "openvino").exists()


def test_a_layer_that_would_fill_the_memory_ends_as_a_refusal(registry: Registry, tmp_path: Path) -> None:
    config = sequential(layer("Flatten", name="f"), layer("Dense", units=2**40, activation="softmax", name="d"))
    with pytest.raises(InvalidModel, match=r"more than \d+ GiB of memory"):
        import_keras(keras_file(tmp_path / "bomb.keras", config), registry)
    assert "bomb" not in {version.manifest.name for version in registry.list()}


def test_hostile_weights_are_refused_before_keras_starts(registry: Registry, tmp_path: Path) -> None:
    def link(file: h5py.File) -> None:
        file["stolen"] = h5py.ExternalLink("/etc/passwd", "/")

    told: list[str] = []
    with pytest.raises(InvalidModel, match="ExternalLink"):
        import_keras(keras_file(tmp_path / "m.keras", weights=link), registry, progress=told.append)
    assert told == []


@pytest.mark.parametrize("size", [(0, 5), (5000, 5)])
def test_a_size_that_makes_no_sense_is_refused_at_once(registry: Registry, file: Path, size: tuple[int, int]) -> None:
    with pytest.raises(InvalidModel, match="1 to 4096"):
        import_keras(file, registry, overrides=Overrides(size=size))


def test_the_real_mobilenet_is_imported_by_its_file_alone_and_knows_its_photographs(
    registry: Registry, shared_data: Path
) -> None:
    version = import_keras(shared_data / "mobilenet_v2_imagenet.keras", registry)
    assert version.reference == "mobilenet_v2@1"
    assert version.labels == read_labels(shared_data / "imagenet_labels.txt")
    assert version.manifest.lineage["notes"] == []
    engine = OpenVINOEngine(version)
    with tarfile.open(shared_data / "imagenet200.tar") as archive:
        members = sorted((m for m in archive.getmembers() if m.name.endswith(".JPEG")), key=lambda m: Path(m.name).name)
        files = [extracted.read() for member in members if (extracted := archive.extractfile(member)) is not None]
    pictures = np.stack([load_picture(data, version.manifest.preprocessing).pixels for data in files])
    batches = [engine.predict(pictures[at : at + engine.batch_size]) for at in range(0, len(files), engine.batch_size)]
    engine.close()
    best = np.concatenate([indices[:, 0] for indices, _ in batches])
    assert np.mean(best == 5 * np.arange(200)) >= 0.86


@pytest.fixture(scope="module")
def bundle(imported: ModelVersion, registry: Registry, home: Path) -> Path:
    return registry.export(imported.reference, home / "birds.zip")


def test_an_export_holds_the_version_without_its_compiled_form_and_overwrites_nothing(
    bundle: Path, registry: Registry
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        assert set(archive.namelist()) == {"manifest.json", "model.keras", "labels.json", "probe.npz", "card.md"}
    with pytest.raises(InvalidModel, match="exists"):
        registry.export("my_birds", bundle)
    assert list(bundle.parent.glob(".*part*")) == []


def test_an_exported_version_is_the_same_model_elsewhere(
    bundle: Path, imported: ModelVersion, tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<script>alert(1)</script>")
    registry.attach("my_birds@1", tmp_path / "report", "# my_birds\n\naccuracy 0.987\n")
    folder = registry.export("my_birds@1", tmp_path / "unzipped")
    assert (folder / "report" / "index.html").is_file()
    elsewhere = Registry(tmp_path / "models")
    version = import_any(folder, elsewhere, name="wings")
    assert version.reference == "wings@1"
    assert version.manifest.digest == imported.manifest.digest
    assert version.manifest.lineage["exported_as"] == "my_birds@1"
    assert (version.path / "openvino" / "model.xml").is_file()
    assert (version.path / "card.md").read_text() == "# wings\n\naccuracy 0.987\n"
    assert not (version.path / "report").exists(), "a stranger's pages are not ours to show"
    elsewhere.verify(version)


def rewrite(bundle: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a bundle with its members changed."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target


def test_a_bundle_whose_model_does_not_answer_its_probe_is_refused(bundle: Path, tmp_path: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        """Other answers, and a manifest that agrees with them: no hash can tell."""
        (tmp_path / "probe.npz").write_bytes(members["probe.npz"])
        images, expected = load_probe(tmp_path / "probe.npz")
        save_probe(tmp_path / "probe.npz", images, expected[:, ::-1])
        members["probe.npz"] = (tmp_path / "probe.npz").read_bytes()
        manifest = json.loads(members["manifest.json"])
        manifest["files"]["probe.npz"] = facts_of(tmp_path / "probe.npz")
        members["manifest.json"] = json.dumps(manifest).encode()

    with pytest.raises(ModelRefused, match="does not answer as it did"):
        import_bundle(rewrite(bundle, tmp_path / "other.zip", change), Registry(tmp_path / "models"))


def _manifest(**facts: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["preprocessing"].update(facts)
        members["manifest.json"] = json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda members: members.update({"labels.json": b'["a","b","c","d","e"]'}), r"labels\.json was changed"),
        (lambda members: members.update({"../evil": b""}), r"\.\./evil"),
        (lambda members: members.update({"openvino/model.xml": b""}), "openvino"),
        (lambda members: members.pop("probe.npz"), r"probe\.npz is missing"),
        (lambda members: members.update({"card.md": b"\0" * 10_000_000}), "bomb"),
        (lambda members: members.update({"manifest.json": b"{}"}), "manifest"),
        (lambda members: members.update({"manifest.json": b"[]"}), "manifest"),
        (_manifest(crop="evil"), "'evil'"),
        (_manifest(scale=7), "7"),
        (_manifest(crop_fraction="x"), "crop_fraction"),
    ],
)
def test_a_changed_bundle_is_refused_before_the_model_is_opened(
    bundle: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], complaint: str
) -> None:
    registry = Registry(tmp_path / "models")
    with pytest.raises(InvalidModel, match=complaint):
        import_bundle(rewrite(bundle, tmp_path / "changed.zip", change), registry)
    assert list(registry.list()) == []


def test_what_is_no_zip_is_refused_and_labels_for_a_bundle_are_too(
    tmp_path: Path, registry: Registry, bundle: Path
) -> None:
    (tmp_path / "x.zip").write_bytes(io.BytesIO(b"no zip at all").getvalue())
    with pytest.raises(InvalidModel, match=r"not a readable \.zip"):
        import_any(tmp_path / "x.zip", registry)
    with pytest.raises(InvalidModel, match="brings its labels"):
        import_any(bundle, registry, labels=tmp_path / "labels.txt")
