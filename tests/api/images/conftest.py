"""A folder of pictures below an allowed root, classified, and the API over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from store.database import Database
from tests.api.picture_jobs import classified
from tests.pictures import picture, saved
from tests.serving import api_client, new_token
from worker.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient


@dataclass(frozen=True, slots=True)
class Gallery:
    """Three pictures of an owner named ann, the last of which was not classified."""

    client: TestClient
    settings: Settings
    database: Database
    folder: Path
    job: int

    def get(self, what: str, idx: int = 0, **options: Any) -> Any:
        """The answer for one item, asked for by the administrator unless headers say otherwise."""
        return self.client.get(f"/api/v1/jobs/{self.job}/items/{idx}/{what}", **options)

    def of(self, owner: str) -> dict[str, str]:
        """The header of a reader."""
        return {"Authorization": f"Bearer {new_token(self.settings.database, owner, ('read',))}"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The allowed root."""
    folder = tmp_path / "photos"
    (folder / "day one").mkdir(parents=True)
    (folder / "day one" / "a.jpg").write_bytes(saved(picture(600, 400, seed=1), "JPEG"))
    (folder / "day one" / "b.png").write_bytes(saved(picture(40, 80, seed=2), "PNG"))
    (folder / "day one" / "c.jpg").write_bytes(b"no picture at all")
    return folder


@pytest.fixture
def gallery(settings: Settings, store: Database, photos: Path) -> Iterator[Gallery]:
    job = classified(store, photos, owner="ann", failed=(2,))
    with api_client(settings, [photos]) as client:
        yield Gallery(client, settings, store, photos / "day one", job)
