"""Both clients against a real server: from an upload to its rows."""

import asyncio
import re
from pathlib import Path

import pytest

from api.client import AsyncClient, Client
from tests.running import Home, fake_model, write_images
from tests.serving import Served, serving

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


def example(with_: str) -> str:
    """The program in docs/api.md that has this word in it."""
    (found,) = (text for text in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if with_ in text)
    return str(found)


def test_both_clients_take_pictures_to_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home", {"PIXMILL_ENGINE": "fake"})
    home.path.mkdir()
    fake_model(home.path)
    write_images(tmp_path / "photos", 5)
    with serving(home, [tmp_path], workers=1) as served:
        with Client(served.url, served.token) as client:
            job = client.submit({"upload": client.upload([tmp_path / "photos"])}, model="fake")
            kinds = [event.kind for event in client.follow(job.id)]
            assert (kinds[0], kinds[-1]) == ("state", "end")
            assert client.job(job.id).classified == client.summary(job.id).job.classified == 5
            assert len(client.table(job.id)) == client.estimate({"folder": str(tmp_path / "photos")})["items"] == 5
            assert [row.id for row in client.jobs()] == [job.id]
            with client.sql("SELECT COUNT(*) AS n FROM v_results") as (columns, rows):
                assert (columns, list(rows)) == (["n"], [[5]])
        assert asyncio.run(_asynchronously(served, tmp_path)) == 5
        for name in ("PIXMILL_SERVER", "PIXMILL_TOKEN"):
            monkeypatch.setenv(name, served.env()[name])
        exec(compile(example("pixmill.sql("), str(DOCS), "exec"), {"Client": Client})  # noqa: S102  our own words
        head, *counts = capsys.readouterr().out.splitlines()
        assert head == "['label', 'images']"
        assert sum(int(line.split()[-1]) for line in counts) == 10


async def _asynchronously(served: Served, folder: Path) -> int:
    async with AsyncClient(served.url, served.token) as client:
        job = await client.submit({"upload": await client.upload([folder / "photos"])}, model="fake")
        assert (await client.wait(job.id)).state.is_final
        rows = [row async for row in client.results(job.id)]
        assert await client.download(job.id, folder / "rows.csv") == (folder / "rows.csv").stat().st_size
        async with client.sql("SELECT 1 AS a") as (columns, answer):
            assert (columns, [row async for row in answer]) == (["a"], [[1]])
        return len(rows)
