import json
import multiprocessing
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.bundles import unpack_bundle
from models.errors import InvalidModel, UnknownModel
from models.files import facts_of
from models.labels import save_labels
from models.manifest import Manifest, Preprocessing
from models.registry import Registry

DRAFT = Manifest("birds", 0, Preprocessing(), "probabilities", 2, "2026-01-01T00:00:00+00:00", parameters=7)


def fill(staging: Path, weights: bytes = b"weights") -> Path:
    """A staged version, as far as the registry looks."""
    staging.mkdir(exist_ok=True, parents=True)
    (staging / "model.keras").write_bytes(weights)
    (staging / "probe.npz").write_bytes(b"probe")
    save_labels(("owl", "tit"), staging / "labels.json")
    (staging / "openvino").mkdir()
    (staging / "openvino" / "model.xml").write_text("derived")
    return staging


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Callable[..., str]:
    def add(name: str = "birds") -> str:
        return registry.add(fill(tmp_path / "staged"), replace(DRAFT, name=name)).reference

    return add


def test_an_empty_registry_lists_nothing_and_knows_no_model(registry: Registry) -> None:
    assert list(registry.list()) == []
    with pytest.raises(UnknownModel, match="pixmill models list"):
        registry.get("birds")
    assert not registry.root.exists()


def test_versions_count_up_and_the_bare_name_is_the_latest(registry: Registry, add: Callable[..., str]) -> None:
    assert [add(), add(), add("fish")] == ["birds@1", "birds@2", "fish@1"]
    assert [version.reference for version in registry.list()] == ["birds@1", "birds@2", "fish@1"]
    assert registry.get("birds").reference == "birds@2"
    assert registry.get("Birds@1").reference == "birds@1"
    assert registry.get("birds").labels == ("owl", "tit")


def test_a_version_is_read_once_and_again_where_it_is_another_one(registry: Registry, add: Callable[..., str]) -> None:
    add()
    before = registry.get("birds")
    assert registry.get("birds") is before
    folder = registry.root / "birds" / "1"
    (folder / "labels.json").chmod(0o644)
    (folder / "labels.json").write_text('["owl", "wren"]')
    assert registry.get("birds").labels == ("owl", "wren")
    (folder / "manifest.json").unlink()
    with pytest.raises(InvalidModel):
        registry.get("birds")


def test_the_tenth_version_is_later_than_the_ninth(registry: Registry, add: Callable[..., str]) -> None:
    assert [add() for _ in range(10)][-1] == "birds@10"
    assert registry.get("birds").reference == "birds@10"


def test_an_added_version_says_what_its_files_are_and_the_compiled_form_is_not_among_them(
    registry: Registry, add: Callable[..., str]
) -> None:
    version = registry.get(add())
    assert set(version.manifest.files) == {"model.keras", "labels.json", "probe.npz"}
    assert (version.path / "openvino" / "model.xml").read_text() == "derived"
    assert version.manifest.parameters == 7
    registry.verify(version)


def report_of(folder: Path, text: str) -> Path:
    (folder / "gallery").mkdir(parents=True)
    (folder / "index.html").write_text(text)
    (folder / "gallery" / "1.png").write_bytes(b"png")
    return folder


def test_card_and_report_are_attached_and_replaced_without_touching_what_answers(
    registry: Registry, add: Callable[..., str], tmp_path: Path
) -> None:
    before = registry.get(add())
    registry.attach("birds@1", report_of(tmp_path / "first", "first"), "# birds\n")
    registry.attach("birds", report_of(tmp_path / "second", "second"), "# birds, evaluated\n")
    version = registry.get("birds@1")
    assert version == before
    registry.verify(version)
    assert (version.path / "card.md").read_text() == "# birds, evaluated\n"
    assert (version.path / "report" / "index.html").read_text() == "second"
    assert (version.path / "report" / "gallery" / "1.png").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "second" / "index.html").is_file(), "the caller's own is copied, not taken"
    assert list((registry.root / ".staging").iterdir()) == []

    registry.attach("birds@1", None, "# birds, again\n")
    assert (version.path / "card.md").read_text() == "# birds, again\n"
    assert (version.path / "report" / "index.html").read_text() == "second"


def test_a_report_with_a_link_is_refused_and_the_old_one_stays(
    registry: Registry, add: Callable[..., str], tmp_path: Path
) -> None:
    version = registry.get(add())
    registry.attach("birds@1", report_of(tmp_path / "first", "first"), "# first\n")
    report = report_of(tmp_path / "second", "second")
    (report / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidModel, match="plain files"):
        registry.attach("birds@1", report, "# second\n")
    assert (version.path / "report" / "index.html").read_text() == "first"
    assert (version.path / "card.md").read_text() == "# first\n"


def test_a_version_that_comes_with_a_card_and_a_report_does_not_vouch_for_them(
    registry: Registry, tmp_path: Path
) -> None:
    staged = fill(tmp_path / "staged")
    (staged / "card.md").write_text("# birds\n")
    report_of(staged / "report", "first")
    version = registry.add(staged, DRAFT)
    assert set(version.manifest.files) == {"model.keras", "labels.json", "probe.npz"}
    (version.path / "card.md").write_text("# birds, evaluated\n")
    registry.verify(version)


def test_a_version_of_the_first_release_verifies_and_exports_after_its_card_was_rewritten(
    registry: Registry, add: Callable[..., str], tmp_path: Path
) -> None:
    version = registry.get(add())
    (version.path / "card.md").write_text("# birds\n")
    files = {**version.manifest.files, "card.md": facts_of(version.path / "card.md")}
    replace(version.manifest, files=files).save(version.path / "manifest.json")
    registry.verify(registry.get("birds@1"))
    registry.attach("birds@1", report_of(tmp_path / "report", "new"), "# birds, evaluated\n")
    registry.verify(registry.get("birds@1"))

    bundle = registry.export("birds@1", tmp_path / "birds.zip")
    with zipfile.ZipFile(bundle) as archive:
        names = set(archive.namelist())
    assert names == {
        "manifest.json", "model.keras", "labels.json", "probe.npz", "card.md", "report/index.html",
        "report/gallery/1.png",
    }  # fmt: skip
    unpacked = unpack_bundle(bundle, tmp_path / "unpacked")
    assert {entry.name for entry in unpacked.path.iterdir()} == names - {"report/index.html", "report/gallery/1.png"}
    assert (unpacked.path / "card.md").read_text() == "# birds, evaluated\n"


def test_a_changed_file_fails_verification_by_name(registry: Registry, add: Callable[..., str]) -> None:
    version = registry.get(add())
    (version.path / "model.keras").chmod(0o644)
    (version.path / "model.keras").write_bytes(b"Weights")
    with pytest.raises(InvalidModel, match=r"model\.keras in .* is not what was registered"):
        registry.verify(version)


def test_files_of_a_version_are_read_only(registry: Registry, add: Callable[..., str]) -> None:
    version = registry.get(add())
    assert {(version.path / name).stat().st_mode & 0o222 for name in version.manifest.files} == {0}


def test_the_same_files_have_the_same_digest_under_another_name(registry: Registry, add: Callable[..., str]) -> None:
    assert registry.get(add()).manifest.digest == registry.get(add("fish")).manifest.digest


@pytest.mark.parametrize("missing", ["model.keras", "labels.json", "probe.npz"])
def test_an_incomplete_version_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path, missing: str) -> None:
    staged = fill(tmp_path / "staged")
    (staged / missing).unlink()
    with pytest.raises(InvalidModel, match=missing):
        registry.add(staged, DRAFT)
    assert list(registry.list()) == []


def test_a_link_in_a_staged_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    staged = fill(tmp_path / "staged")
    (staged / "card.md").symlink_to("/etc/passwd")
    with pytest.raises(InvalidModel, match="plain files"):
        registry.add(staged, DRAFT)


def test_an_alias_points_at_a_version_until_it_is_moved(registry: Registry, add: Callable[..., str]) -> None:
    add(), add()
    registry.alias("birds@1", "Production")
    assert registry.get("birds@production").reference == "birds@1"
    registry.alias("birds", "production")
    assert registry.get("birds@production").reference == "birds@2"
    assert registry.aliases("birds") == {"production": 2}
    registry.unalias("birds", "production")
    with pytest.raises(UnknownModel, match="birds@2"):
        registry.get("birds@production")


def test_a_removed_version_is_gone_and_its_number_never_comes_back(registry: Registry, add: Callable[..., str]) -> None:
    add(), add()
    registry.remove("birds@2")
    assert registry.get("birds").reference == "birds@1"
    assert add() == "birds@3"
    registry.remove("birds@1"), registry.remove("birds@3")
    with pytest.raises(UnknownModel, match=r"There is no model 'birds'\. `pixmill models list`"):  # no "mean birds?"
        registry.get("birds@3")
    assert registry.names() == []
    assert add() == "birds@4"


def test_a_version_with_an_alias_is_removed_by_force_only(registry: Registry, add: Callable[..., str]) -> None:
    add(), add()
    registry.alias("birds@1", "production")
    with pytest.raises(InvalidModel, match="birds@production"):
        registry.remove("birds@1")
    registry.remove("birds@1", force=True)
    assert registry.aliases("birds") == {}


def test_a_misspelt_name_brings_near_models_and_presets(registry: Registry, add: Callable[..., str]) -> None:
    add("birds")
    with pytest.raises(UnknownModel, match=r"Did you mean birds\?"):
        registry.get("brids")
    with pytest.raises(UnknownModel, match="pixmill models pull efficientnetv2_b0_imagenet_classifier"):
        registry.get("efficientnetv2_b0_imagenet")
    with pytest.raises(UnknownModel, match="birds@1"):
        registry.get("birds@7")


def test_a_version_whose_manifest_is_broken_is_refused_by_path(registry: Registry, add: Callable[..., str]) -> None:
    version = registry.get(add())
    (version.path / "manifest.json").write_text("{")
    with pytest.raises(InvalidModel, match=str(version.path)):
        registry.get("birds")


def test_a_manifest_of_a_later_format_is_refused(registry: Registry, add: Callable[..., str]) -> None:
    version = registry.get(add())
    facts = json.loads((version.path / "manifest.json").read_text())
    (version.path / "manifest.json").write_text(json.dumps({**facts, "format": 2}))
    with pytest.raises(InvalidModel, match="expected manifest format 1, got 2"):
        registry.get("birds")


def _add_many(root: Path, staged: Path, count: int) -> None:
    registry = Registry(root)
    for index in range(count):
        registry.add(fill(staged / str(index), str(staged).encode()), DRAFT)


def test_processes_that_add_at_once_all_get_versions_of_their_own(tmp_path: Path) -> None:
    root, count, writers = tmp_path / "models", 8, 4
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add_many, args=(root, tmp_path / str(n), count)) for n in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    versions = Registry(root).list()
    assert [version.manifest.version for version in versions] == list(range(1, count * writers + 1))
    for version in versions:
        Registry(root).verify(version)


def test_what_a_killed_import_left_is_swept_after_a_day_and_not_before(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = registry.root / ".staging" / "left"
    left.mkdir(parents=True)
    with registry.staging():
        assert left.is_dir()
    now = left.stat().st_mtime
    monkeypatch.setattr("models.registry.time.time", lambda: now + 25 * 3600)
    with registry.staging():
        assert not left.exists()


def test_staging_is_empty_and_goes_away_also_after_an_error(registry: Registry) -> None:
    def fail() -> None:
        with registry.staging() as folder:
            assert list(folder.iterdir()) == []
            (folder / "half").write_text("made")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((registry.root / ".staging").iterdir()) == []


def test_a_version_from_another_disk_is_moved_in_whole(registry: Registry) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == registry.root.parent.stat().st_dev:
        pytest.skip("no second file system here")
    staged = fill(shared_memory / "pixmill-test-staged")
    try:
        registry.verify(registry.add(staged, DRAFT))
    finally:
        shutil.rmtree(staged, ignore_errors=True)
