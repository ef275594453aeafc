"""The totals of a job in one line."""

from __future__ import annotations

from dataclasses import replace

from cli.summary import _totals
from store.rows import JobRow
from store.states import JobState

JOB = JobRow(
    id=1, kind="classify", state=JobState.DONE, owner="", priority=5, description="", root=b"/", confined=False,
    model_id=1, model="birds@1", top_k=5, reuse=True, found=1000, classified=990, failed=10, reused=0, ignored={},
    created_at=0.0, started_at=100.0, finished_at=120.0, error=None,
)  # fmt: skip


def test_totals_add_up_and_say_how_fast_it_went() -> None:
    assert _totals(JOB) == "1,000 found = 990 classified + 10 failed in 0:20, 50 img/s"


def test_after_a_retry_time_and_speed_are_those_of_what_ran_since() -> None:
    again = replace(JOB, classified=1000, failed=0, done_before=990, started_at=110.0)
    assert _totals(again) == ("1,000 found = 1,000 classified + 0 failed; 10 of them since the retry in 0:10, 1 img/s")
