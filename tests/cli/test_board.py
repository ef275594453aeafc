"""What `pixmill up` shows: a table that fits its terminal, and lines that a log can bear."""

import io

import pytest
from rich.console import Console

from cli.board import Lines, draw
from cli.standing import JobLine, Look, PartLine

API = PartLine("api", "http://127.0.0.1:8420", "serving", "well", speed="3.2 req/s")
STARTING = PartLine("api", "http://127.0.0.1:8420", "starting", "soon")
BROKER = PartLine("broker", "embedded", "running", "well")
BUSY = PartLine("worker", "classify · CPU", "busy", "well", "mobilenet_v2@1, birds@3", "1,287 img/s")
IDLE = PartLine("worker", "classify · CPU", "idle", "well", "mobilenet_v2@1, birds@3")
DOWN = PartLine(
    "worker", "train · NVIDIA H100 80GB HBM3 (some very long name)", "down, see worker-train-gpu.log", "ill"
)
JOB = JobLine(1, "job 1", 12031, 38474, ("12,031 of 38,474", "3 failed", "287 img/s", "1:32 left"))
RUN = JobLine(17, "run 17", 0, 0, ("cats_dogs", "reading and checking the pictures"))


def drawn(look: Look, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(draw(look, width))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO from above
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", [60, 80, 110])
def test_a_table_of_everything_fits_its_terminal(width: int) -> None:
    look = Look((API, BROKER, BUSY, DOWN), (JOB, RUN), waiting=3)
    lines = drawn(look, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + 4 + 1 + 2 + 1  # a rule, the parts, a gap, the jobs, those that wait: nothing is folded


def test_eighty_columns_show_all_that_matters_of_a_part_and_a_job() -> None:
    text = "\n".join(drawn(Look((API, BROKER, BUSY), (JOB,), waiting=1), 80))
    for words in ("http://127.0.0.1:8420", "serving", "3.2 req/s", "busy", "1,287 img/s", "1 job waiting"):
        assert words in text
    assert "12,031 of 38,474 · 3 failed · 287 img/s · 1:32 left" in text


def test_idleness_and_trouble_are_said() -> None:
    assert "No job is open." in "\n".join(drawn(Look((API,), ()), 80))
    text = "\n".join(drawn(Look((API,), (), trouble="The database is away: locked"), 80))
    assert "The database is away: locked" in text
    assert "No job" not in text


def test_names_of_others_cannot_draw_on_the_terminal() -> None:
    nasty = PartLine("worker", "classify · [red]CPU[/] \x1b[2J", "busy", "well", "[blink]x\x07")
    text = "\n".join(drawn(Look((nasty,), (JobLine(1, "job 1", 1, 2, ("\x1b]0;title\x07",)),)), 110))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]CPU[/]" in text


def test_a_log_tells_each_part_once_and_not_the_coming_and_going_of_work() -> None:
    lines = Lines()
    assert list(lines.of(Look((STARTING, IDLE), ()), 0)) == ["worker classify · CPU: ready"]
    assert list(lines.of(Look((API, BUSY), ()), 1)) == ["api http://127.0.0.1:8420: serving"]
    assert list(lines.of(Look((API, IDLE), ()), 2)) == []
    waits = PartLine("api", API.where, "starts again in 3 s", "soon")
    assert list(lines.of(Look((waits, IDLE), ()), 3)) == []  # its death was told by the supervisor
    assert list(lines.of(Look((API, IDLE), ()), 4)) == ["api http://127.0.0.1:8420: serving"]
    assert list(lines.of(Look((API, DOWN), ()), 5)) == [f"worker {DOWN.where}: down, see worker-train-gpu.log"]


def test_a_log_hears_of_a_job_every_ten_seconds_and_of_trouble_once() -> None:
    lines = Lines()
    busy = Look((), (JOB,))
    told = [line for second in range(25) for line in lines.of(busy, second)]
    assert told == ["job 1: 12,031 of 38,474 · 3 failed · 287 img/s · 1:32 left"] * 2
    away = Look((), (), trouble="The database is away: no")
    assert [line for second in range(5) for line in lines.of(away, second)] == ["The database is away: no"]
