"""Models over HTTP: by the registry only; what comes from outside is checked in a process of its own."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api import intake
from api.routes.models import SENT_AT_ONCE, Exports
from api.schemas import models as schemas
from models.children import Child, bare_environment
from models.registry import Registry
from store import tokens
from store.database import Database
from tests.models.keras_files import keras_file, layer, sequential
from tests.running import LABELS, fake_model
from tests.serving import api_client, new_token
from worker.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient

PATHS_OUT = ("..%2f..%2fetc%2fpasswd", "%2e%2e", "%2fetc", "a%00b", "a%0ab", "%ff", "birds%20", ".staging")
ADDRESSES = ("hf:%2f%2fkeras%2fbirds", "http:%2f%2fevil.example%2fbirds.keras", "gs:%2f%2fb%2fm", "file:%2f%2f%2fetc")


@pytest.fixture
def client(settings: Settings, store: Database) -> Iterator[TestClient]:
    for name in ("birds", "birds", "cats"):
        fake_model(settings.home, name)
    with api_client(settings, []) as made:
        yield made


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings.models_folder)


def call(client: TestClient, method: str, path: str, **options: Any) -> Any:
    return client.request(method, f"/api/v1{path}", **options)


def test_models_versions_and_labels_are_told(client: TestClient, registry: Registry) -> None:
    registry.alias("birds@1", "production")
    listed = call(client, "GET", "/models").json()
    assert [row["reference"] for row in listed["items"]] == ["birds@1", "birds@2", "cats@1"]
    assert listed["items"][0]["aliases"] == ["production"]
    one = call(client, "GET", "/models/birds").json()
    schemas.Model.model_validate(one)
    schemas.ModelVersions.model_validate(listed)
    schemas.LabelledVersion.model_validate(call(client, "GET", "/models/birds/1").json())
    assert (one["latest"], one["aliases"], len(one["versions"])) == (2, {"production": 1}, 2)
    for selector, number in (("1", 1), ("2", 2), ("latest", 2), ("production", 1)):
        found = call(client, "GET", f"/models/birds/{selector}").json()
        assert (found["version"], found["labels"]) == (number, list(LABELS))


def test_models_come_in_pages(client: TestClient) -> None:
    first = call(client, "GET", "/models?limit=2").json()
    rest = call(client, "GET", "/models", params={"limit": 2, "cursor": first["next"]}).json()
    assert [row["reference"] for row in (*first["items"], *rest["items"])] == ["birds@1", "birds@2", "cats@1"]
    assert rest["next"] is None


def test_a_damaged_version_hides_no_other(client: TestClient, settings: Settings) -> None:
    (settings.models_folder / "birds" / "1" / "manifest.json").write_text("{")
    assert [row["reference"] for row in call(client, "GET", "/models").json()["items"]] == ["birds@2", "cats@1"]
    assert call(client, "GET", "/models/birds/1").status_code == 422


@pytest.mark.parametrize("name", [*PATHS_OUT, *ADDRESSES, "x" * 65, "crows"])
def test_a_name_that_is_none_is_not_there_or_refused(client: TestClient, name: str) -> None:
    for method, path in (
        ("GET", f"/models/{name}"), ("GET", f"/models/{name}/1"), ("GET", f"/models/birds/{name}"),
        ("GET", f"/models/{name}/1/export"), ("DELETE", f"/models/{name}/1"), ("DELETE", f"/models/birds/{name}"),
        ("DELETE", f"/models/{name}/aliases/a"), ("DELETE", f"/models/birds/aliases/{name}"),
    ):  # fmt: skip
        assert call(client, method, path).status_code in (404, 405, 422), (method, path)
    assert call(client, "PUT", f"/models/{name}/aliases/a", json={"version": 1}).status_code in (404, 405, 422)
    assert [row["reference"] for row in call(client, "GET", "/models").json()["items"]] == [
        "birds@1", "birds@2", "cats@1",
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["0", "3", "999999999", "1000000000", str(2**63), "-1", "1.0", "nobody"])
def test_a_version_out_of_range_is_not_there_or_refused(client: TestClient, version: str) -> None:
    assert call(client, "GET", f"/models/birds/{version}").status_code in (404, 422)
    assert call(client, "DELETE", f"/models/birds/{version}").status_code in (404, 422)
    body = {"version": int(version)} if version.lstrip("-").isdecimal() else {"version": version}
    assert call(client, "PUT", "/models/birds/aliases/good", json=body).status_code in (404, 422)


def test_an_alias_is_set_moved_and_taken_away(client: TestClient, registry: Registry) -> None:
    for version in (1, 2):
        answer = call(client, "PUT", "/models/birds/aliases/production", json={"version": version})
        assert (answer.status_code, answer.json()["alias"], answer.json()["version"]) == (
            200, "birds@production", version,
        )  # fmt: skip
    assert registry.get("birds@production").manifest.version == 2
    assert call(client, "DELETE", "/models/birds/aliases/production").status_code == 204
    assert call(client, "DELETE", "/models/birds/aliases/production").status_code == 404


@pytest.mark.parametrize("alias", ["7", "latest", "..", "a%2fb", "x" * 65, "-a", "%00"])
def test_an_alias_that_is_none_is_refused(client: TestClient, registry: Registry, alias: str) -> None:
    assert call(client, "PUT", f"/models/birds/aliases/{alias}", json={"version": 1}).status_code in (404, 405, 422)
    assert not registry.aliases("birds")


def test_a_version_with_an_alias_is_only_removed_by_force(client: TestClient, registry: Registry) -> None:
    registry.alias("birds@1", "production")
    refused = call(client, "DELETE", "/models/birds/1")
    assert (refused.status_code, refused.json()["type"]) == (409, "/errors#conflict")
    assert call(client, "DELETE", "/models/birds/1?force=true").status_code == 204
    assert call(client, "GET", "/models/birds/1").status_code == 404
    assert call(client, "DELETE", "/models/birds/2").status_code == 204


def test_readers_look_and_change_nothing(client: TestClient, settings: Settings) -> None:
    changing = (
        ("DELETE", "/models/birds/1", None), ("PUT", "/models/birds/aliases/a", {"version": 1}),
        ("DELETE", "/models/birds/aliases/a", None), ("POST", "/models?file=a.keras", None),
        ("POST", "/presets/pull", {"preset": "keras_mobilenetv2"}),
    )  # fmt: skip
    looking = ("/models", "/models/birds", "/models/birds/1", "/models/birds/1/export", "/presets")
    for scope in ("read", "submit"):
        headers = {"Authorization": f"Bearer {new_token(settings.database, 'ann', (scope,))}"}
        for method, path, body in changing:
            assert call(client, method, path, json=body, headers=headers).status_code == 403, path
        for path in looking:
            assert call(client, "GET", path, headers=headers).status_code == 200, path
    for method, path in [*((m, p) for m, p, _ in changing), *(("GET", p) for p in looking)]:
        assert call(client, method, path, headers={"Authorization": ""}).status_code == 401, path


def test_an_export_is_a_zip_of_the_version_and_leaves_nothing_behind(client: TestClient, settings: Settings) -> None:
    answer = call(client, "GET", "/models/birds/2/export")
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="birds-2.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        assert json.loads(bundle.read("manifest.json"))["version"] == 2
        assert bundle.read("model.keras") == b"birds"
    assert not list(settings.cache_folder.glob("model-*"))


def test_where_a_version_lies_and_its_report_with_pictures_are_for_administrators(
    client: TestClient, settings: Settings
) -> None:
    version = settings.models_folder / "birds" / "2"
    version.chmod(0o755)
    (version / "report").mkdir()
    (version / "report" / "index.html").write_text("<img src='data:a picture of ann'>")
    for owner, scope in (("ann", "read"), ("bob", "submit"), ("", "admin")):
        headers = {"Authorization": f"Bearer {new_token(settings.database, owner, (scope,))}"}
        is_admin = scope == "admin"
        answer = call(client, "GET", "/models/birds/2/export", headers=headers)
        with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
            assert ("report/index.html" in bundle.namelist()) == is_admin
        for path in ("/models", "/models/birds", "/models/birds/2"):
            text = call(client, "GET", path, headers=headers).text
            assert (str(settings.models_folder) in text) == is_admin, path


def test_exports_that_are_not_taken_yet_count_for_their_token(
    client: TestClient, settings: Settings, store: Database
) -> None:
    exports = client.app.state.context.part(Exports)  # type: ignore[attr-defined]  # FastAPI's
    row, secret = tokens.create(store, name="n", owner="ann", scopes=("read",))
    theirs = {"Authorization": f"Bearer {secret}"}
    with exports.shares.held(row.id), exports.shares.held(row.id):
        refused = call(client, "GET", "/models/cats/1/export", headers=theirs)
        assert (refused.status_code, refused.json()["type"]) == (503, "/errors#too-many-exports")
        assert call(client, "GET", "/models/cats/1/export").status_code == 200
    for _ in range(SENT_AT_ONCE):  # each gives its place back
        assert call(client, "GET", "/models/cats/1/export", headers=theirs).status_code == 200


def test_presets_are_told(client: TestClient) -> None:
    schemas.Presets.model_validate(call(client, "GET", "/presets").json())
    found = {(row["kind"], row["name"]) for row in call(client, "GET", "/presets").json()["items"]}
    assert {("classifier", "keras_mobilenetv2"), ("network", "cifar_vgg")} <= found
    assert {kind for kind, _ in found} == {"classifier", "network", "backbone"}


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("manifest.json", "model.keras", "labels.json", "probe.npz"):
            archive.writestr(name, bytes(50_000_000))
    return path


def slip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../../slipped.txt", "out")
        archive.writestr("manifest.json", "{}")
    return path


def plain(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


HOSTILE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "nothing that opens": ("a.keras", plain(b"no zip")),
    "a layer that runs code": (
        "a.keras",
        lambda path: keras_file(path, sequential(layer("Lambda", function="__import__('os').abort()"))),
    ),
    "a layer of any module": ("a.keras", lambda path: keras_file(path, sequential(layer("system", module="os")))),
    "a member outside": ("a.keras", lambda path: keras_file(path, more={"../../slipped.txt": b"out"})),
    "a bundle with a member outside": ("a.zip", slip),
    "a bundle that is a bomb": ("a.zip", bomb),
    "a bundle of nothing": ("a.zip", plain(b"PK\5\6" + bytes(18))),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_model_is_refused_and_leaves_nothing(
    client: TestClient, settings: Settings, tmp_path: Path, what: str
) -> None:
    name, make = HOSTILE[what]
    file = tmp_path / name
    make(file)
    answer = call(client, "POST", f"/models?file={name}&name=evil", content=file.read_bytes())
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors#invalid-model")
    assert call(client, "GET", "/models/evil").status_code == 404
    assert not list(settings.cache_folder.glob("model-*"))
    assert not list(settings.home.parent.rglob("slipped.txt"))


@pytest.mark.parametrize(
    "query",
    ["", "?file=a.h5", "?file=..%2fa.keras", "?file=%2fetc%2fa.keras", "?file=a%00.keras", "?file=a.keras&name=..%2fb",
     "?file=a.keras&name=http:%2f%2fx", "?file=a.keras&labels=%2fetc%2fpasswd", "?file=a.keras&size=0",
     "?file=a.keras&size=9e9", "?file=a.keras&crop=round", "?file=a.keras&label=", "?file=a.keras&label=a%00",
     "?file=a.keras&labels=imagenet&label=a", "?file=a.keras&crop_fraction=2"],
)  # fmt: skip
def test_what_is_said_of_a_model_is_checked_before_its_body(client: TestClient, query: str) -> None:
    assert call(client, "POST", f"/models{query}", content=b"x").status_code == 422


def test_an_empty_body_is_refused(client: TestClient, settings: Settings) -> None:
    assert call(client, "POST", "/models?file=a.keras", content=b"").status_code == 422
    assert not list(settings.cache_folder.glob("model-*"))


@pytest.mark.parametrize("preset", ["hf://keras/x", "../x", "", "no_such_preset", "x" * 200])
def test_a_preset_that_is_none_is_refused(client: TestClient, preset: str) -> None:
    assert call(client, "POST", "/presets/pull", json={"preset": preset}).status_code == 422


def test_one_import_runs_at_a_time(client: TestClient) -> None:
    part = client.app.state.context.part(intake.Intake)  # type: ignore[attr-defined]  # FastAPI's
    with part.turn():
        answer = call(client, "POST", "/models?file=a.keras", content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_a_server_without_keras_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "NEEDED", ("no_such_package",))
    for path, options in (
        ("/models?file=a.keras", {"content": b"x"}),
        ("/presets/pull", {"json": {"preset": "keras_mobilenetv2"}}),
    ):
        answer = call(client, "POST", path, **options)
        assert (answer.status_code, answer.json()["type"]) == (501, "/errors#not-installed")


@pytest.mark.slow
def test_a_model_goes_in_out_and_in_again(client: TestClient, tmp_path: Path) -> None:
    request = {"folder": str(tmp_path), "kinds": ["no rescaling"]}
    Child("tests.models.keras_zoo", tmp_path, bare_environment(tmp_path), 200.0).ask(request)
    query = "file=My%20Tits.keras&crop=squash&scale=0-1&" + "&".join(f"label={n}" for n in "abcde")
    made = call(client, "POST", f"/models?{query}", content=(tmp_path / "no rescaling.keras").read_bytes())
    assert made.status_code == 201, made.text
    found = made.json()
    assert (found["reference"], found["crop"], found["scale"]) == ("my_tits@1", "squash", "0-1")
    assert made.headers["location"] == "/api/v1/models/my_tits/1"
    assert call(client, "GET", "/models/my_tits/1").json()["labels"] == list("abcde")
    bundle = call(client, "GET", "/models/my_tits/1/export").content
    again = call(client, "POST", "/models?file=any.zip&name=again", content=bundle)
    assert again.status_code == 201, again.text
    assert (again.json()["reference"], again.json()["digest"]) == ("again@1", found["digest"])
