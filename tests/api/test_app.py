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
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
HEAVY = (
    "keras", "keras_cv", "tensorflow", "torch", "jax", "openvino", "PIL", "cv2", "simplejpeg", "numpy", "h5py",
    "sklearn", "matplotlib", "pyarrow", "pandas", "celery", "alembic",
)  # fmt: skip


def test_the_api_loads_no_heavy_package(tmp_path: Path) -> None:
    """In a new process: the app is made, started, asked, described and ended."""
    code = f"""
import sys
from pathlib import Path
import api.app
assert "api.routes.tokens" not in sys.modules
from worker.settings import Settings
from starlette.testclient import TestClient
from store import schema
from store.database import Database
settings = Settings(home=Path({str(tmp_path)!r}))
database = Database(settings.database)
schema.ensure(database)
sys.modules.pop("alembic", None)  # it made the tables; the API does not
database.close()
app = api.app.make_app(settings, roots=())
print(*sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", done.stdout


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
