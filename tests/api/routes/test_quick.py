"""POST /classify with a worker that is there: the label comes with the answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import LABELS, Home, eventually, fake_model, write_images
from tests.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = tmp_path_factory.mktemp("quick")
    home = Home(path / "home", {"PIXMILL_ENGINE": "fake"})
    fake_model(home.path)
    write_images(path / "photos", 1)
    with serving(home, [path], workers=1) as found:
        yield found


@pytest.fixture
def image(served: Served) -> bytes:
    return (served.home.path.parent / "photos" / "000000.png").read_bytes()


def test_one_image_is_answered_with_its_label(served: Served, image: bytes) -> None:
    asked: dict[str, str | int] = {"name": "bird.png", "model": "fake", "top_k": 3}
    answer = served.client.post(f"{served.api}/classify", params=asked, content=image, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    row = answer.json()
    assert (row["file_name"], row["status"], row["model"]) == ("bird.png", "ok", "fake@1")
    assert row["label"] in LABELS
    assert (len(row["topk"]), row["topk"][0]["label"]) == (3, row["label"])
    kept = served.client.get(f"{served.url}{answer.headers['content-location']}").json()
    assert kept["result"] == row
    job = f"{served.api}/jobs/{row['job_id']}"  # its end is counted after its last row is there
    eventually(lambda: served.client.get(job).json()["state"] == "done", what="the job's end")


def test_what_is_no_image_is_answered_with_the_reason(served: Served) -> None:
    answer = served.client.post(f"{served.api}/classify", content=b"no picture", headers={"Prefer": "wait=60"})
    assert (answer.status_code, answer.json()["error_code"]) == (200, "not_image"), answer.text


def test_a_form_is_refused_with_what_to_send(served: Served, image: bytes) -> None:
    before = served.client.get(f"{served.api}/uploads").json()
    answer = served.client.post(f"{served.api}/classify", files={"file": ("bird.png", image)})
    assert (answer.status_code, answer.json()["type"]) == (415, "/errors#unsupported-media-type")
    assert "--data-binary @FILE" in answer.json()["detail"]
    assert served.client.get(f"{served.api}/uploads").json() == before
