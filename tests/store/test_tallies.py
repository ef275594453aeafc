"""Tallies say what a count of the rows would say, whatever happened before."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text, update

from store import jobs, tallies
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import LeaseLost, NothingToDo
from store.removal import remove
from store.rows import Lease, NewItem, NewJob, NewResult
from store.run_data import write_survey
from store.sweep import sweep
from store.tables import results, shards
from store.tables import tallies as table
from tests.store.conftest import AcceptJob, train
from tests.store.test_run_data import survey

LABELS = ("robin", "wren", "caf\u00e9 \U0001f426", "")
CODES = ("truncated", "missing", "corrupt")


def told(database: Database, job_id: int) -> Counter[tuple[str, str]]:
    with database.read() as connection:
        rows = connection.execute(select(table.c.kind, table.c.value, table.c.n).where(table.c.job_id == job_id))
        return +Counter({(kind, value): n for kind, value, n in rows})


def counted(database: Database, job_id: int) -> Counter[tuple[str, str]]:
    """What the rows say, with the true labels taken from the items."""
    query = """SELECT r.status, r.label, r.score, r.error_code, i.label AS true_label, r.agrees FROM results r
        JOIN items i ON i.job_id = r.job_id AND i.idx = r.idx WHERE r.job_id = :job"""
    found: Counter[tuple[str, str]] = Counter()
    with database.read() as connection:
        for row in connection.execute(text(query), {"job": job_id}):
            agrees = row.label == row.true_label if row.status == "ok" and row.true_label is not None else None
            assert row.agrees == agrees
            if row.status == "ok":
                found["label", row.label] += 1
                found["score", f"{min(19, int(row.score * 20)):02}"] += 1
            else:
                found["error_code", row.error_code] += 1
            if agrees is not None:
                found["agrees", "1" if agrees else "0"] += 1
    return found


def answers(lease: Lease, chance: random.Random) -> list[NewResult]:
    rows = []
    for idx in range(lease.lo, lease.hi):
        if chance.random() < 0.3:
            rows.append(NewResult(idx, "failed", error_code=chance.choice(CODES), error="why"))
            continue
        reused, score = chance.random() < 0.5, chance.choice((0.0, 0.05, 0.49999, 0.95, 1.0, chance.random()))
        rows.append(NewResult(idx, "ok", label=chance.choice(LABELS), score=score, topk="[]", reused=reused))
    return rows


@pytest.fixture
def labelled(database: Database, model_id: int) -> int:
    """A job of many small shards, in which two of three items have a true label."""
    found = (NewItem(b"%d.jpg" % n, label=LABELS[n % 2] if n % 3 else None) for n in range(400))
    return jobs.accept(database, NewJob(model_id, max_shard=16), found)


def work(database: Database, number: int) -> None:
    """Commit in slices, lose some leases on the way, and retry what failed now and then."""
    chance = random.Random(number)
    while lease := claim(database, Claimer(f"w{number}")):
        rows = answers(lease, chance)
        done = {row.idx for row in rows}
        with database.read() as connection:
            mine = (results.c.job_id == lease.job_id) & results.c.idx.in_(done)
            there = set(connection.execute(select(results.c.idx).where(mine)).scalars())
        left = [row for row in rows if row.idx not in there]
        commit_slice(database, lease, left[: len(left) // 2], last=False)
        if chance.random() < 0.2:  # died half-way
            with database.write() as connection:
                late = {"lease_until": 1.0, "attempt": chance.randint(1, 2)}
                connection.execute(update(shards).where(shards.c.id == lease.shard_id).values(late))
            sweep(database)
            with database.write() as connection:
                connection.execute(update(shards).where(shards.c.state == "ready").values(not_before=0))
            continue
        commit_slice(database, lease, left[len(left) // 2 :], last=True)


def test_after_a_storm_of_commits_and_retries_the_tallies_are_what_the_rows_are(
    database: Database, labelled: int
) -> None:
    chance = random.Random(7)
    with ThreadPoolExecutor(4) as pool:
        for turn in range(4):
            list(pool.map(lambda n: work(database, n), range(turn * 10, turn * 10 + 4)))
            sweep(database)
            assert told(database, labelled) == counted(database, labelled)
            try:
                jobs.retry(database, labelled, chance.sample(CODES, turn % 3))
            except NothingToDo:
                continue
            assert told(database, labelled) == counted(database, labelled)
    work(database, 99)
    sweep(database)
    with database.read() as connection:
        assert sum(n for _, n in tallies.tallies_of(connection, labelled, "score", 20)) == connection.scalar(
            select(func.count()).select_from(results).where(results.c.status == "ok")
        )
        best = tallies.tallies_of(connection, labelled, "label", 2)
    ranked = sorted((-n, value) for (kind, value), n in counted(database, labelled).items() if kind == "label")
    assert [-n for n, _ in ranked[:2]] == [n for _, n in best]
    remove(database, labelled)
    assert not told(database, labelled)


def test_an_image_that_is_set_aside_is_tallied(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(1)
    for _ in range(5):
        assert claim(database, Claimer("w"))
        with database.write() as connection:
            connection.execute(update(shards).values(lease_until=1.0))
        sweep(database)
        with database.write() as connection:
            connection.execute(update(shards).values(not_before=0))
    assert told(database, job_id) == {("error_code", "worker_died"): 1}


def test_a_survey_that_is_made_again_is_tallied_once(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    lease = train(database)
    write_survey(database, lease, survey())
    before = told(database, job_id)
    assert before == counted(database, job_id)
    assert before
    with database.write() as connection:
        connection.execute(text("UPDATE runs SET fingerprint = 'other'"))
    write_survey(database, lease, survey())
    assert told(database, job_id) == before


def test_a_commit_that_comes_too_late_tallies_nothing(database: Database, labelled: int) -> None:
    lease = claim(database, Claimer("w"))
    assert lease
    with database.write() as connection:
        connection.execute(update(shards).where(shards.c.id == lease.shard_id).values({"token": "another"}))
    with pytest.raises(LeaseLost):
        commit_slice(database, lease, answers(lease, random.Random(1)), last=True)
    assert not told(database, labelled)


@pytest.mark.parametrize(
    ("score", "number"), [(-1.0, 0), (0.0, 0), (0.0499, 0), (0.05, 1), (0.999, 19), (1.0, 19), (7.0, 19)]
)
def test_a_score_is_in_one_of_twenty_parts(score: float, number: int) -> None:
    assert tallies.bin_of(score) == number
