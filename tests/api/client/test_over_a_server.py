"""Both clients against a real server: from an upload to its rows."""

import asyncio
from pathlib import Path

from api.client import AsyncClient, Client
from tests.running import Home, fake_model, write_images
from tests.serving import Served, serving


def test_both_clients_take_pictures_to_their_rows(tmp_path: Path) -> None:
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


async def _asynchronously(served: Served, folder: Path) -> int:
    async with AsyncClient(served.url, served.token) as client:
        job = await client.submit({"upload": await client.upload([folder / "photos"])}, model="fake")
        assert (await client.wait(job.id)).state.is_final
        rows = [row async for row in client.results(job.id)]
        assert await client.download(job.id, folder / "rows.csv") == (folder / "rows.csv").stat().st_size
        async with client.sql("SELECT 1 AS a") as (columns, answer):
            assert (columns, [row async for row in answer]) == (["a"], [[1]])
        return len(rows)
