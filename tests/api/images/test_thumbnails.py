"""Thumbnails: small, kept by content, and rendered where a picture can break nothing."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from api.context import Context
from api.images.small import Thumbnails
from tests.api.images.conftest import Gallery
from tests.api.picture_jobs import hash_of
from worker.thumbnails import renderer
from worker.thumbnails.renderer import Renderer


def thumbnails_of(gallery: Gallery) -> Thumbnails:
    context: Context = gallery.client.app.state.context  # type: ignore[attr-defined]  # FastAPI's
    return context.part(Thumbnails)


def test_a_thumbnail_has_the_proportions_and_at_most_the_size(gallery: Gallery) -> None:
    answer = gallery.get("thumbnail", params={"size": 100})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("WEBP", (128, 85))  # the next kept size, in proportion
    assert answer.headers["etag"] == f'"{hash_of(gallery.database, gallery.job, 0)}-128"'
    with Image.open(io.BytesIO(gallery.get("thumbnail", 1).content)) as image:
        assert image.size == (40, 80)  # never enlarged


def test_who_has_it_gets_304_without_anything_being_rendered(gallery: Gallery) -> None:
    tag = f'"{hash_of(gallery.database, gallery.job, 0)}-256"'
    assert gallery.get("thumbnail", headers={"If-None-Match": tag}).status_code == 304
    assert not list(gallery.settings.thumbnails_folder.glob("*/*"))
    assert gallery.get("thumbnail", headers={"If-None-Match": '"0"'}).status_code == 200
    assert len(list(gallery.settings.thumbnails_folder.glob("*/*"))) == 1


def test_what_was_rendered_is_kept_though_the_file_goes(gallery: Gallery) -> None:
    first = gallery.get("thumbnail").content
    (gallery.folder / "a.jpg").unlink()
    assert gallery.get("thumbnail").content == first
    assert gallery.get("thumbnail", params={"size": 64}).status_code == 404


def test_what_was_rendered_is_not_shown_once_its_place_leads_out_of_the_root(gallery: Gallery, tmp_path: Path) -> None:
    assert gallery.get("thumbnail").status_code == 200
    (gallery.folder / "a.jpg").rename(tmp_path / "a.jpg")
    (gallery.folder / "a.jpg").symlink_to(tmp_path / "a.jpg")
    assert gallery.get("thumbnail").status_code == 403


@pytest.mark.parametrize("size", ["0", "15", "513", "-1", "9" * 30, "big", "1.5"])
def test_a_size_out_of_range_is_refused(gallery: Gallery, size: str) -> None:
    assert gallery.get("thumbnail", params={"size": size}).status_code == 422


def test_a_picture_with_more_pixels_than_allowed_is_a_problem_and_the_api_lives(gallery: Gallery) -> None:
    context: Context = gallery.client.app.state.context  # type: ignore[attr-defined]  # FastAPI's
    context.settings.__dict__["max_pixels"] = 1_000  # frozen for everybody else
    answer = gallery.get("thumbnail")
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_pixels")
    assert gallery.get("original").status_code == 200


def test_a_killed_child_costs_nothing_but_its_next_start(gallery: Gallery) -> None:
    assert gallery.get("thumbnail").status_code == 200
    found = thumbnails_of(gallery)
    for child in list(found._renderer._all):
        os.kill(child.pid, signal.SIGKILL)
    assert gallery.get("thumbnail", 1).status_code == 200


def test_a_hung_child_is_ended_and_the_next_picture_is_served(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = thumbnails_of(gallery)
    found._renderer = Renderer(1, timeout_s=0.01)  # no child answers so soon
    answer = gallery.get("thumbnail")
    assert (answer.status_code, answer.json()["code"]) == (422, "worker_died")
    found._renderer.stop()
    found._renderer = Renderer(1)
    assert gallery.get("thumbnail").status_code == 200


def test_a_server_without_pillow_says_what_is_missing_and_still_sends_originals(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer, "NEEDED", ("no_such_package",))
    answer = gallery.get("thumbnail")
    assert answer.status_code == 501
    assert "no_such_package" in answer.json()["detail"]
    assert gallery.get("original").status_code == 200
