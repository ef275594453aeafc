"""Figures for Prometheus, counted in SQL at the moment they are asked for: any API process tells the whole."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from api.access import Credentials, caller_of, require
from api.context import Here
from store.figures import Figures, figures

if TYPE_CHECKING:
    from prometheus_client import Metric

router = APIRouter(tags=["health"])

FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def may_scrape(request: Request, here: Here, sent: Credentials) -> None:
    """This machine itself needs no token; who came through a proxy is not this machine. Raises Problem 401, 403."""
    if sent is None and _is_local(request):
        return
    require(await caller_of(request, here, sent), "read")


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
    dependencies=[Depends(may_scrape)],
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Exposition format"}},
)
def metrics(here: Here) -> PlainTextResponse:
    """Of everybody's work, without names of owners. From loopback no token is needed, else one with scope read."""
    from prometheus_client import CollectorRegistry, generate_latest  # a tenth of a second, for those who scrape

    registry = CollectorRegistry()
    registry.register(_Collected(figures(here.database)))
    return PlainTextResponse(generate_latest(registry), media_type=TEXT)


class _Collected:
    """The figures as prometheus-client wants them."""

    def __init__(self, found: Figures) -> None:
        self._found = found

    def describe(self) -> list[Metric]:
        return []  # nothing is asked of the database to register

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        found = self._found
        images = CounterMetricFamily("pixmill_images", "Images that got their row.", labels=["model", "status"])
        for image in found.images:
            images.add_metric([image.model, image.status], image.images)
        yield images
        yield GaugeMetricFamily(
            "pixmill_images_per_second", "Images that got their row in the last minute.", value=found.images_per_s
        )
        shards = GaugeMetricFamily("pixmill_queue_shards", "Shards that wait for a worker.", labels=["queue"])
        items = GaugeMetricFamily("pixmill_queue_items", "Images in shards that wait for a worker.", labels=["queue"])
        oldest = GaugeMetricFamily("pixmill_queue_oldest_seconds", "Age of the oldest waiting job.", labels=["queue"])
        for queue in found.queues:
            shards.add_metric([queue.queue], queue.shards)
            items.add_metric([queue.queue], queue.items)
            oldest.add_metric([queue.queue], queue.oldest_s)
        yield from (shards, items, oldest)
        jobs = GaugeMetricFamily("pixmill_jobs", "Jobs by state.", labels=["state"])
        for state, count in found.jobs.items():
            jobs.add_metric([state], count)
        yield jobs
        seen = GaugeMetricFamily(
            "pixmill_worker_seen_seconds", "Since a worker was heard of.", labels=["worker", "state"]
        )
        done = CounterMetricFamily("pixmill_worker_images", "Images since a worker started.", labels=["worker"])
        for worker in found.workers:
            seen.add_metric([worker.id, worker.state], worker.seen_ago_s)
            done.add_metric([worker.id], worker.images)
        yield from (seen, done)
        yield CounterMetricFamily("pixmill_lease_expiries", "Leases that ended unheard.", value=found.lease_expiries)
        yield CounterMetricFamily(
            "pixmill_fenced_commits", "Late writes that were refused.", value=found.fenced_commits
        )


def _is_local(request: Request) -> bool:
    """Whether the request comes from this machine, and from no proxy on it."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    return address.is_loopback
