"""The other listings go along an index: jobs, results across jobs, runs and their findings, items, logs, uploads.

The plans are those of the product's own statements under its own settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Table

from store import item_query
from store import tables as t
from store.across import Scope, page_across
from store.corrections import history
from store.database import Database
from store.events import events_after
from store.facets import facets
from store.hooks import deliveries_of
from store.insights import list_jobs
from store.item_query import ItemFilter, items_page
from store.results import Filter
from store.run_data import findings_page
from store.runs import list_runs
from store.states import JobState
from store.uploads import list_uploads
from store.writing import insert_rows
from tests.databases import ready
from tests.servers import new_postgres_database
from tests.store.statements import noted

N = 3000
GROWING = "jobs|shards|tallies|items|results|corrections|runs|run_items|findings|events|deliveries|uploads"
SORTED = 500  # rows: as many as one window has
OTHERS = 60  # jobs of 20 images beside a large one


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Enough of everything that PostgreSQL has a choice; the owner `shy` and the run `once` have few, and old ones."""
    if request.param == "sqlite":
        url = ready(f"sqlite:///{tmp_path_factory.mktemp('listings')}/pixmill.db")
    else:
        url = new_postgres_database(request.getfixturevalue("postgres"))
    database = Database(url)
    with database.write() as connection:
        for table, rows in (*_of_jobs(), *_of_items(), *_of_runs(), *_of_clients()):
            insert_rows(connection, table, list(rows))
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")  # an index alone is read where all is visible
    yield database
    database.close()


Rows = Iterator[tuple[Table, Iterator[dict[str, Any]]]]


def _owner(n: int) -> str:
    return "shy" if n <= 5 else f"o{n % 7}"


def _of_jobs() -> Rows:
    """The jobs 3 and 50 are paused, all others done."""
    model = {"classes": 2, "labels": "[]", "preprocessing": "{}", "path": "/m", "created_at": 1.0}
    names = ({"name": f"m{n % 50}", "version": n // 50 + 1} for n in range(200))
    yield t.models, ({"id": n + 1, "digest": f"{n:064}", **name, **model} for n, name in enumerate(names))
    numbers = range(1, N + 1)
    state = {3: "paused", 50: "paused"}
    job = {"kind": "classify"}
    yield (
        t.jobs,
        (
            {"id": n, "owner": _owner(n), "state": state.get(n, "done"), "model_id": n % 200 + 1, "created_at": 1.0 * n}
            | job
            for n in numbers
        ),
    )
    shard = {"queue": "classify", "lo": 0, "hi": 9, "state": "done"}
    yield t.shards, ({"job_id": n, **shard} for n in numbers)
    yield t.tallies, ({"job_id": n, "kind": "label", "value": "wren", "n": 1} for n in numbers)
    yield t.tallies, ({"job_id": n, "kind": "label", "value": "owl", "n": 1} for n in (1, 2))
    yield t.events, ({"job_id": n % 300 + 1, "at": 1.0, "kind": "running", "data": "{}"} for n in range(2 * N))


def _of_items() -> Rows:
    """Of job 1 a tenth has no result, and one image in a hundred is an owl."""
    places = [(1, idx) for idx in range(N)] + [(job, idx) for job in range(2, OTHERS) for idx in range(20)]
    label = ["owl"] + 99 * ["wren"]
    yield (
        t.items,
        ({"job_id": job, "idx": n, "path": f"a/{n:06}.jpg", "label": label[n % 100]} for job, n in places),
    )
    result = {"status": "ok", "label": "wren", "score": 0.5, "token": "t", "created_at": 1.0}
    yield t.results, ({"job_id": job, "idx": n, **result} for job, n in places if n < N * 9 // 10)
    said = {"label": "owl", "author": "anna", "created_at": 1.0}
    yield t.corrections, ({"job_id": 1, "idx": 7 if n % 10 == 0 else n, **said} for n in range(N))


def _of_runs() -> Rows:
    yield (
        t.runs,
        (
            {"id": n, "name": "once" if n == 3 else f"r{n % 7}", "state": "done", "created_at": 1.0}
            | {"owner": _owner(n), "job_id": n}
            for n in range(1, N + 1)
        ),
    )
    yield (
        t.run_items,
        ({"run_id": 1, "idx": n, "split": "train", "content_hash": b"x" * 16} for n in range(N)),
    )
    found = {"kind": "near_duplicate", "detail": ""}
    yield t.findings, ({"run_id": n % 10 + 1, "idx": n, "other_idx": n // 2, **found} for n in range(N))


def _of_clients() -> Rows:
    hook = {"owner": "o1", "url": "https://x.test", "secret": "s", "created_at": 1.0}
    yield t.webhooks, ({"id": _hook(n), **hook} for n in range(100))
    sent = {"kind": "job.done", "body": "{}", "state": "sent", "created_at": 1.0}
    yield t.deliveries, ({"webhook_id": _hook(n % 100), "event_id": n, "message_id": f"{n}", **sent} for n in range(N))
    state = {"state": "sealed", "touched_at": 1.0}
    yield t.uploads, ({"id": f"{n:032}", "owner": _owner(n), "created_at": 1.0 * n, **state} for n in range(N))


def _hook(n: int) -> str:
    return f"{n:032}"


def plan(database: Database, action: Callable[[], object]) -> list[str]:
    """The plans of all that an action asks."""
    seen = noted(database, action)
    with database.read() as connection:
        if database.is_sqlite:
            asked = (connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}", had) for said, had in seen if _asks(said))
            return [row[-1] for answer in asked for row in answer]
        asked = (connection.exec_driver_sql(f"EXPLAIN {said}", had) for said, had in seen if _asks(said))
        return [row[0] for answer in asked for row in answer]


def _asks(said: str) -> bool:
    return said.startswith(("SELECT", "WITH"))


@dataclass(frozen=True, slots=True)
class Listing:
    """What is asked, and what each plan must say; `walks`: a table that is read in the order of its numbers until a
    page is full; `sorts`: all that is found is sorted, since no index has that order."""

    ask: Callable[[Database], object]
    sqlite: tuple[str, ...]
    postgresql: tuple[str, ...]
    walks: str = "-"
    sorts: bool = field(default=False)


TALLY = r"tallies USING PRIMARY KEY \(job_id=\? AND kind=\? AND value=\?\)"
TALLY_PG = r"using pk_tallies .*\n +Index Cond: \(\(job_id = jobs.id\) AND"
PAUSED, DONE, FAILED = JobState.PAUSED, JobState.DONE, JobState.FAILED
OF_LABEL = r"ix_items_job_id_label_idx \(job_id=\? AND label=\?"
OF_LABEL_PG = r"ix_items_job_id_label_idx.*\n +Index Cond: .*label = "
JOINED_PG = r"pk_results on results.*\n +Index Cond: \(\(job_id = items.job_id\) AND \(idx = items.idx\)\)"
KEY_PG = r"using pk_items on items .*\n +Index Cond: \(job_id ="
OWNER, OWNER_PG = r"ix_jobs_owner_id \(owner=\?\)", r"ix_jobs_owner_id.*\n +Index Cond: \(+owner\)::text = 'shy'"
WALK_PG = "Index Scan Backward using pk_jobs on jobs"
SHARDS = (
    r"ix_shards_job_id_state_lo \(job_id=\?\)",
    r"ix_shards_job_id_state_lo.*\n +Index Cond: \(job_id = jobs.id\)",
)

LISTINGS = {
    "across, label": Listing(
        lambda d: page_across(d, Scope(), Filter(label="owl")), (TALLY,), (TALLY_PG,), walks="jobs"
    ),
    "across, label, owner": Listing(
        lambda d: page_across(d, Scope("shy"), Filter(label="owl")),
        (TALLY, OWNER),
        (TALLY_PG, OWNER_PG),
        sorts=True,  # a small part of each job
    ),
    "across, model": Listing(
        lambda d: page_across(d, Scope(None, "m1@1"), Filter()),
        ("ix_models_name_version",),
        ("ix_models_name_version", WALK_PG),
        walks="jobs",
    ),
    "across, model, owner": Listing(lambda d: page_across(d, Scope("shy", "m1"), Filter()), (OWNER,), (OWNER_PG,)),
    "jobs": Listing(list_jobs, (SHARDS[0],), (SHARDS[1], WALK_PG), walks="jobs"),
    "jobs, owner": Listing(lambda d: list_jobs(d, owner="shy"), (OWNER,), (OWNER_PG,)),
    "jobs, owner, before": Listing(
        lambda d: list_jobs(d, owner="shy", before=N), (r"ix_jobs_owner_id \(owner=\? AND id<\?\)",), (OWNER_PG,)
    ),
    "jobs, kind": Listing(lambda d: list_jobs(d, kind="finetune"), (), (WALK_PG,), walks="jobs"),
    "jobs, since": Listing(lambda d: list_jobs(d, since=9e9), (), (WALK_PG,), walks="jobs"),
    "jobs, until": Listing(lambda d: list_jobs(d, until=9.0), (), (WALK_PG,), walks="jobs"),
    "jobs, model": Listing(
        lambda d: list_jobs(d, model="m1"), ("ix_models_name_version",), ("ix_models_name_version",), walks="jobs"
    ),
    "jobs, a state": Listing(
        lambda d: list_jobs(d, states=[PAUSED]), (r"ix_jobs_state \(state=\?\)",), ("using ix_jobs_state on jobs",)
    ),
    "jobs, states": Listing(
        lambda d: list_jobs(d, states=[DONE, FAILED]),
        (r"COVERING INDEX ix_jobs_state \(state=\?\)", r"jobs USING INTEGER PRIMARY KEY \(rowid=\?\)"),
        (WALK_PG, r"using ix_jobs_state on jobs .*\n +Index Cond: \(\(state\)::text = 'failed'"),
        walks="jobs jobs_1",
    ),
    "jobs, state, owner": Listing(lambda d: list_jobs(d, states=[DONE], owner="shy"), (OWNER,), (OWNER_PG,)),
    "jobs, states, owner": Listing(lambda d: list_jobs(d, states=[DONE, PAUSED], owner="shy"), (OWNER,), (OWNER_PG,)),
    "runs": Listing(list_runs, (), ("Index Scan Backward using pk_runs on runs",), walks="runs"),
    "runs, owner": Listing(
        lambda d: list_runs(d, owner="o1"), (), ("Index Scan Backward using pk_runs on runs",), walks="runs"
    ),
    "runs, name": Listing(
        lambda d: list_runs(d, name="once"), (r"ix_runs_name \(name=\?\)",), ("using ix_runs_name on runs",)
    ),
    "runs, name, owner": Listing(
        lambda d: list_runs(d, name="once", owner="shy"),
        (r"ix_runs_name \(name=\?\)",),
        ("using ix_runs_name on runs",),
    ),
    "findings": Listing(
        lambda d: findings_page(d, 1, 10, 100),
        # Not along their numbers: the runs before this one may have millions.
        (
            r"COVERING INDEX ix_findings_run_id \(run_id=\? AND rowid>\?\)",
            r"i USING PRIMARY KEY \(job_id=\? AND idx=\?\)",
        ),
        (
            r"Key: \(\(findings.id \+ 0\)\)\n(.*\n)+?.* ix_findings_run_id ",
            r"pk_items on items i .*\n +Index Cond: \(\(job_id = u.job_id\) AND \(idx = f.idx\)\)",
        ),
    ),
    "deliveries": Listing(
        lambda d: deliveries_of(d, _hook(1)),
        (r"uq_deliveries_webhook_id_event_id \(webhook_id=\?\)",),
        ("uq_deliveries_webhook_id_event_id",),
        sorts=True,
    ),
    "uploads, owner": Listing(
        lambda d: list_uploads(d, "shy"), (r"ix_uploads_owner \(owner=\?\)",), ("ix_uploads_owner",), sorts=True
    ),
    "corrections of an item": Listing(
        lambda d: history(d, 1, 7, after=5, limit=10),
        (r"ix_corrections_job_id_idx_id \(job_id=\? AND idx=\? AND id>\?\)",),
        (r"ix_corrections_job_id_idx_id.*\n +Index Cond: .*job_id = .*idx = .*id > ",),
    ),
    "items, pending": Listing(
        lambda d: items_page(d, 1, ItemFilter(pending=True)),
        (r"items USING PRIMARY KEY \(job_id=\? AND idx<\?\)",),
        (KEY_PG, JOINED_PG),
    ),
    "items, pending, later": Listing(
        lambda d: items_page(d, 1, ItemFilter(pending=True), after=(600,)),
        (r"items USING PRIMARY KEY \(job_id=\? AND idx>\? AND idx<\?\)",),
        (r"pk_items.*\n +Index Cond: .*idx > .*idx <= ", JOINED_PG),
    ),
    "items, true label": Listing(
        lambda d: items_page(d, 1, ItemFilter(true_label="owl"), after=(600,)),
        (OF_LABEL, r"items USING PRIMARY KEY \(job_id=\? AND idx=\?\)"),
        (OF_LABEL_PG, JOINED_PG),
    ),
    "items, true label, pending": Listing(
        lambda d: items_page(d, 1, ItemFilter(true_label="owl", pending=True)),
        (OF_LABEL, r"items USING PRIMARY KEY \(job_id=\? AND idx=\?\)"),
        (OF_LABEL_PG, JOINED_PG),
    ),
    "items, folder, true label": Listing(
        lambda d: items_page(d, 1, ItemFilter(path_prefix="a/", true_label="owl")),
        # Up to the last name of a window, whatever labels it has.
        (r"COVERING INDEX ix_items_job_id_path_idx", r"ix_items_job_id_path_idx \(job_id=\? AND path>\? AND path<\?\)"),
        (r"ix_items_job_id_path_idx.*\n +Index Cond: .*path <= ", JOINED_PG),
    ),
    "events of a job": Listing(
        lambda d: events_after(d, 7, 3, 100),
        (r"ix_events_job_id_id \(job_id=\? AND id>\?\)",),
        (r"ix_events_job_id_id.*\n +Index Cond: \(\(job_id = .*id > ",),
    ),
    "events of all jobs": Listing(
        lambda d: events_after(d, None, 100, 100),
        (r"events USING INTEGER PRIMARY KEY \(rowid>\?\)",),
        (r"pk_events on events.*\n +Index Cond: \(id > ",),
    ),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_goes_along_its_index(many: Database, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(item_query, "WINDOW", 10)  # of a window larger than jobs are, PostgreSQL sorts them
    listing = LISTINGS[name]
    lines = plan(many, lambda: listing.ask(many))
    found = "\n".join(lines)
    for said in listing.sqlite if many.is_sqlite else listing.postgresql:
        assert re.search(said, found), found
    whole = set(_whole_sqlite(lines) if many.is_sqlite else _whole_postgresql(lines))
    assert whole <= set(listing.walks.split()), found
    if many.is_sqlite:
        assert listing.sorts or not any(
            "TEMP B-TREE" in line and before != "SCAN workers" for before, line in pairwise(lines)
        ), found
    else:
        assert all(int(rows) <= SORTED for rows in re.findall(r"Sort  \(.* rows=(\d+)", found)), found


def _whole_sqlite(lines: list[str]) -> Iterator[str]:
    """The tables that are read from one end on; `=?` says that only a part of them is."""
    for line in lines:
        if there := re.match(rf"(?:SCAN|SEARCH) ({GROWING})\b(?!.*[=<>]\?)", line):
            yield there[1]


def _whole_postgresql(lines: list[str]) -> Iterator[str]:
    """The tables that are read from one end on, by a scan, or by an index in which nothing is looked up."""
    for line, below in pairwise([*lines, ""]):
        there = re.search(rf"(Seq Scan|Index(?: Only)? Scan.* using \w+) on (?:{GROWING})(?: (\w+))?  ", line)
        if there and "Index Cond" not in below:
            yield "all" if there[1] == "Seq Scan" else there[2] or line.split(" on ")[1].split()[0]


@pytest.mark.parametrize("chosen", [Filter(glob="*77.jpg"), Filter(label="wren", path_prefix="a/")], ids=str)
def test_an_items_name_is_looked_up_by_its_key(many: Database, chosen: Filter) -> None:
    """The index of names has the numbers too: through that each look-up is one at all names of the job."""
    found = "\n".join(plan(many, lambda: facets(many, 1, chosen)))
    by_key = "items USING PRIMARY KEY (job_id=? AND idx=?)" if many.is_sqlite else "using pk_items on items"
    assert by_key in found, found
