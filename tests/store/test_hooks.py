"""Webhooks: each event of an owner's jobs becomes one delivery, sent once, or tried again, by one process at a time."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from store import deliveries, hooks, jobs
from store.database import Database
from store.removal import remove
from tests.store.conftest import AcceptJob

URL = "https://example.org/hook"


def hook(database: Database, owner: str = "ann", *events: str) -> hooks.WebhookRow:
    return hooks.create(database, owner=owner, url=URL, secret="whsec_x", events=events)  # noqa: S106  no real one


def told(database: Database, webhook: hooks.WebhookRow) -> list[str]:
    return [delivery.kind for delivery in reversed(hooks.deliveries_of(database, webhook.id))]


def let_time_pass(database: Database, seconds: float) -> None:
    with database.write() as connection:
        connection.execute(
            text("UPDATE deliveries SET not_before = not_before - :s, leased_until = leased_until - :s"), {"s": seconds}
        )


def test_an_event_becomes_one_delivery_for_each_webhook_that_wants_it(
    database: Database, accept_job: AcceptJob
) -> None:
    before = accept_job(3, owner="ann")
    everything, ends, other = hook(database), hook(database, "ann", "cancelled"), hook(database, "bob")
    jobs.cancel(database, before)
    accept_job(3, owner="bob")
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: hooks.spread(database), range(4))) == 4
    assert hooks.spread(database) == 0
    assert told(database, everything) == ["job.cancelling", "job.cancelled"]
    assert told(database, ends) == ["job.cancelled"]
    assert told(database, other) == ["job.accepted"]
    (delivery,) = hooks.deliveries_of(database, ends.id)
    message = json.loads(delivery.body)
    assert message["type"] == "job.cancelled"
    assert message["timestamp"].endswith("Z")
    assert message["data"] == {"job": before, "state": "cancelled"}


def test_more_events_than_a_portion_are_all_told(
    database: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = hook(database)
    job_id = accept_job(3, owner="ann")
    for _ in range(4):
        jobs.pause(database, job_id)
        jobs.resume(database, job_id)
    monkeypatch.setattr(hooks, "PORTION", 2)
    assert hooks.spread(database) == 9
    assert len(set(hooks.deliveries_of(database, webhook.id, limit=4, before=None))) == 4


def test_a_delivery_outlives_the_job_it_tells_of(database: Database, accept_job: AcceptJob) -> None:
    webhook = hook(database)
    job_id = accept_job(3, owner="ann")
    jobs.cancel(database, job_id)
    hooks.spread(database)
    remove(database, job_id)
    assert len(hooks.due(database, 10)) == 2
    assert len(told(database, webhook)) == 3


def test_a_leased_delivery_is_nobody_elses_until_its_lease_ends(database: Database) -> None:
    webhook = hook(database)
    hooks.enqueue(database, webhook.id, "test", "{}")
    (first,) = hooks.due(database, 10)
    assert (first.url, first.secret, first.delivery.attempts) == (URL, "whsec_x", 1)
    assert hooks.due(database, 10) == []
    let_time_pass(database, 61)
    (again,) = hooks.due(database, 10)
    assert again.delivery.attempts == 2
    assert again.delivery.message_id == first.delivery.message_id
    assert not hooks.settle(database, first.delivery, True, 200, None)
    assert hooks.settle(database, again.delivery, True, 204, None)
    assert not hooks.settle(database, again.delivery, True, 204, None)
    (sent,) = hooks.deliveries_of(database, webhook.id)
    assert (sent.state, sent.status, sent.attempts) == ("sent", 204, 2)
    assert sent.delivered_at


def test_a_failed_attempt_is_made_again_after_its_time_or_never(database: Database) -> None:
    webhook = hook(database)
    hooks.enqueue(database, webhook.id, "test", "{}")
    (first,) = hooks.due(database, 10)
    assert hooks.settle(database, first.delivery, False, 503, "busy", 30)
    assert hooks.due(database, 10) == []
    let_time_pass(database, 31)
    (second,) = hooks.due(database, 10)
    assert (second.delivery.attempts, second.delivery.status, second.delivery.error) == (2, 503, "busy")
    assert hooks.settle(database, second.delivery, False, None, "no answer")
    let_time_pass(database, 100_000)
    assert hooks.due(database, 10) == []
    (failed,) = hooks.deliveries_of(database, webhook.id)
    assert (failed.state, failed.status, failed.error, failed.delivered_at) == ("failed", None, "no answer", None)
    assert hooks.prune(database, 60) == 0
    assert hooks.prune(database, -1) == 1


def test_a_webhook_that_is_down_does_not_hold_up_the_others(database: Database) -> None:
    slow, quick = hook(database), hook(database)
    for _ in range(5):
        hooks.enqueue(database, slow.id, "test", "{}")
    hooks.enqueue(database, quick.id, "test", "{}")
    with ThreadPoolExecutor(4) as pool:
        leased = [due for found in pool.map(lambda _: hooks.due(database, 10), range(4)) for due in found]
    by_hook = sorted(due.delivery.webhook_id for due in leased)
    assert by_hook == sorted([slow.id, slow.id, quick.id])
    assert len({due.delivery.id for due in leased}) == 3
    assert hooks.due(database, 10) == []  # while two of the slow one's are under way


def test_what_was_free_a_moment_ago_is_counted_again_before_it_is_leased(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = hook(database)
    for _ in range(5):
        hooks.enqueue(database, webhook.id, "test", "{}")
    free = deliveries._ready
    monkeypatch.setattr(
        deliveries, "_ready", lambda *_: free(100, None)
    )  # an answer that is too old to know of the others
    assert len(hooks.due(database, 10)) == 2


def test_a_webhook_is_changed_switched_off_and_on_and_removed(database: Database, accept_job: AcceptJob) -> None:
    webhook = hook(database)
    job_id = accept_job(3, owner="ann")
    hooks.spread(database)
    off = hooks.change(database, webhook.id, active=False, url="https://example.org/b", events=["paused", "resumed"])
    assert off
    assert (off.active, off.url, off.events) == (False, "https://example.org/b", ("paused", "resumed"))
    jobs.pause(database, job_id)
    assert hooks.spread(database) == 0
    assert hooks.due(database, 10) == []
    assert hooks.change(database, webhook.id, active=True)
    assert hooks.change(database, webhook.id) == hooks.find(database, webhook.id)
    jobs.resume(database, job_id)
    hooks.spread(database)
    assert told(database, webhook) == ["job.accepted", "job.resumed"]  # nothing of the time when it was off
    assert [row.id for row in hooks.list_webhooks(database, "ann")] == [webhook.id]
    assert hooks.list_webhooks(database, "bob") == []
    assert hooks.remove(database, webhook.id)
    assert not hooks.remove(database, webhook.id)
    assert hooks.find(database, webhook.id) is None
    assert hooks.change(database, webhook.id, active=True) is None
    assert hooks.enqueue(database, webhook.id, "test", "{}") is None
    assert hooks.due(database, 10) == []


def test_an_owner_with_many_webhooks_does_not_hold_up_other_owners(database: Database) -> None:
    for webhook in [hook(database) for _ in range(6)]:
        hooks.enqueue(database, webhook.id, "test", "{}")
    theirs = hook(database, "bob")
    hooks.enqueue(database, theirs.id, "test", "{}")
    owners = []
    while leased := hooks.due(database, 1, per_owner=4):
        owners += [hooks.find(database, one.delivery.webhook_id) for one in leased]
    assert [row.owner for row in owners if row] == ["ann", "bob", "ann", "ann", "ann"]
    assert len(hooks.due(database, 10)) == 2  # without a bound the rest is due


def test_an_owners_share_is_counted_again_before_a_delivery_is_leased(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for webhook in [hook(database) for _ in range(5)]:
        hooks.enqueue(database, webhook.id, "test", "{}")
    free = deliveries._ready
    monkeypatch.setattr(deliveries, "_ready", lambda *_: free(100, None))
    assert len(hooks.due(database, 10, per_owner=3)) == 3
