"""Counts to choose from: from tallies without a filter, from a bounded look under one; both are right."""

from collections import Counter

import pytest

from store import facets as module
from store.database import Database
from store.errors import UnknownJob
from store.facets import Facets, facets, summary
from store.results import Filter, ResultRow, stream
from tests.mixed_results import FILTERS, expected, mixed_job
from tests.store.plain_counts import agreement, classes


def counted(rows: list[ResultRow]) -> Facets:
    ok = [row for row in rows if row.status == "ok"]
    agrees = Counter(row.agrees for row in ok)
    bins = Counter(min(19, int((row.score or 0) * 20)) for row in ok)
    return Facets(
        status={"ok": len(ok), "failed": len(rows) - len(ok)},
        labels=sorted(Counter(row.label or "" for row in ok).items(), key=lambda pair: (-pair[1], pair[0])),
        error_codes=sorted(
            Counter(row.error_code for row in rows if row.error_code).items(), key=lambda pair: (-pair[1], pair[0])
        ),
        agreement={"right": agrees[True], "wrong": agrees[False], "unknown": agrees[None]},
        scores=[bins[n] for n in range(20)],
        seen=0,
        exact=True,
    )


def without_seen(found: Facets) -> Facets:
    return Facets(found.status, found.labels, found.error_codes, found.agreement, found.scores, 0, found.exact)


def test_counts_are_those_of_the_rows_that_a_filter_chooses(database: Database) -> None:
    job = mixed_job(database)
    rows = {row.idx: row for row in stream(database, job)}
    for name, chosen in FILTERS.items():
        wanted = counted([rows[n] for n in expected(rows.values(), chosen)])
        assert without_seen(facets(database, job, chosen)) == wanted, name


def test_counts_of_a_part_say_that_they_are(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 30)
    job = mixed_job(database)
    found = facets(database, job, Filter(status="ok"))
    assert not found.exact
    assert found.seen == 30
    assert sum(found.status.values()) <= 31
    assert facets(database, job, Filter()).exact
    assert facets(database, job, Filter(error_code="empty")).exact  # few rows: an index finds them all


def test_the_most_frequent_labels_come_first(database: Database) -> None:
    job = mixed_job(database)
    for chosen in (Filter(), Filter(min_score=0.0)):
        everything = facets(database, job, chosen).labels
        assert facets(database, job, chosen, limit=2).labels == everything[:2]
        assert [count for _, count in everything] == sorted((count for _, count in everything), reverse=True)


def test_a_summary_is_what_counting_all_rows_gives(database: Database) -> None:
    job = mixed_job(database)
    found = summary(database, job)
    assert list(found.classes) == classes(database, job)
    assert found.agreement == agreement(database, job)
    rows = [row for row in stream(database, job) if row.status == "failed"]
    assert {code: count for code, count, _ in found.failures} == Counter(row.error_code for row in rows)
    first = {row.error_code: row.error for row in reversed(rows)}
    assert {code: text for code, _, text in found.failures} == first


def test_counts_of_an_unknown_job_are_refused(database: Database) -> None:
    for chosen in (Filter(), Filter(label="x")):
        with pytest.raises(UnknownJob):
            facets(database, 99, chosen)
