"""The application as a whole: what it loads, what it is made of, how it starts and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import ROUTERS, SERVICES, TOP, make_app
from api.context import Context
from api.openapi import METHODS
from tests.running import fake_model, write_images
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
HEAVY = (
    "keras", "keras_cv", "tensorflow", "torch", "jax", "openvino", "PIL", "cv2", "simplejpeg", "numpy", "h5py",
    "sklearn", "matplotlib", "pyarrow", "pandas", "celery", "alembic",
)  # fmt: skip


STARTED = """
import sys
from pathlib import Path
import api.app
assert "api.routes.tokens" not in sys.modules
from worker.settings import Settings
from starlette.testclient import TestClient
from store import schema, tokens
from store.database import Database
settings = Settings(home=Path({home!r}))
database = Database(settings.database)
schema.ensure(database)
sys.modules.pop("alembic", None)  # it made the tables; the API does not
_, secret = tokens.create(database, name="test", owner="", scopes=("admin",))
database.close()
app = api.app.make_app(settings, roots=[Path({photos!r})])
print(*sorted(set({heavy!r}) & set(sys.modules)))
headers = {{"Authorization": "Bearer " + secret}}
with TestClient(app, base_url="http://127.0.0.1:8420", headers=headers) as client:
    body = {{"kind": "classify", "source": {{"folder": {photos!r}}}, "model": "fake"}}
    assert client.post("/api/v1/jobs", json=body, headers={{"Prefer": "wait=1"}}).status_code == 202
    assert client.post("/api/v1/jobs?dry_run=true", json=body).status_code == 200
    for path in ("jobs", "jobs/1", "jobs/1/results", "jobs/1/facets", "jobs/1/items", "results?label=ant", "runs",
                 "models", "presets", "workers", "jobs/1/results.csv", "jobs/1/results.jsonl", "webhooks", "uploads"):
        assert client.get("/api/v1/" + path).status_code == 200, path
    assert client.get("/metrics", headers=headers).status_code == 200
    assert client.get("/openapi.json").status_code == 200
print(*sorted(set({heavy!r}) & set(sys.modules)))
"""


def test_the_api_loads_no_heavy_package(tmp_path: Path) -> None:
    """In a new process: the app is made, then started, given a job, asked, described and ended."""
    fake_model(tmp_path / "home")
    write_images(tmp_path / "photos", 2)
    code = STARTED.format(home=str(tmp_path / "home"), photos=str(tmp_path / "photos"), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made, used = done.stdout.splitlines()
    assert made == ""
    assert used == "celery", "only what sends hints to the workers, once there are some"


def test_every_router_and_service_is_there(tmp_path: Path) -> None:
    import importlib

    for name in (*TOP, *(f"api.routes.{router}" for router in ROUTERS)):
        assert importlib.import_module(name).router.routes, name
    for service in SERVICES:
        module, _, kind = service.partition(":")
        found = getattr(importlib.import_module(module), kind)
        assert callable(found.start)
        assert callable(found.stop)
    files = {path.stem for path in (ROOT / "api" / "routes").glob("*.py")} - {"__init__"}
    assert files == set(ROUTERS), "a file of routes that is not served, or the other way round"


def test_every_operation_is_named_and_explained(tmp_path: Path) -> None:
    schema = make_app(Settings(home=tmp_path), roots=()).openapi()
    names = []
    for path, operations in schema["paths"].items():
        for method in set(METHODS) & set(operations):
            operation = operations[method]
            names.append(operation["operationId"])
            assert operation.get("tags"), (method, path)
            assert operation["summary"], (method, path)
            assert len(operation["operationId"]) <= 40, operation["operationId"]
    assert len(names) == len(set(names))


def test_parts_are_made_once_and_stopped_the_youngest_first(tmp_path: Path) -> None:
    stopped: list[str] = []

    class One:
        """A part."""

        def __init__(self, context: Context) -> None:
            self.context = context

        def stop(self) -> None:
            stopped.append(type(self).__name__)

    class Two(One):
        """Another."""

    context = Context(Settings(home=tmp_path), ())
    assert context.part(One) is context.part(One)
    assert context.part(Two).context is context
    assert not context.stopping.is_set()
    context.close()
    assert stopped == ["Two", "One"]
    assert context.stopping.is_set()


def test_it_starts_and_ends_without_a_database_a_broker_or_a_home(tmp_path: Path) -> None:
    app: FastAPI = make_app(Settings(home=tmp_path / "absent", broker_url="redis://127.0.0.1:1/0"), roots=())
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/livez").status_code == 200
        assert (
            client.get("/api/v1/whoami", headers={"Authorization": f"Bearer pxm_abcdefgh_{'a' * 43}"}).status_code
            == 503
        )
    assert app.state.context.stopping.is_set()


def test_a_root_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_app(Settings(home=tmp_path), roots=[tmp_path / "absent"])
