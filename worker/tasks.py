"""Celery's doorway: one short task, and the signals that prepare and end a worker's processes.

The parent process imports nothing heavy; everything that loads a model is imported in the child, after the fork.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery.signals import setup_logging, worker_process_init, worker_ready, worker_shutting_down

from models.children import die_with_parent
from worker.app import DRAIN
from worker.devices import CPU, Device, DeviceError
from worker.dispatch import BROKER_ERRORS
from worker.main import app, settings
from worker.processes import MISCONFIGURED

if TYPE_CHECKING:
    from worker.station import Station
    from worker.training.station import TrainingStation

log = logging.getLogger(__name__)

# Bytes that parent and child share. STOP: the worker was told to stop; read between batches. BUSY: a task runs.
# BROKEN: the child cannot work at all, and starting it again would not help.
_shared = mmap.mmap(-1, 3)
_STOP, _BUSY, _BROKEN = 0, 1, 2
IDLE_POLL_S = 0.02
QUEUE = os.environ.get("PIXMILL_QUEUE", "classify")  # the one that this worker serves; its supervisor says it
_station: Station | TrainingStation | None = None
_at_work = threading.Lock()  # one thread at a time uses the station
RETRY_S = 2.0  # after a failure, before the next claim
SEEN_S = 10.0  # at the most between two signs of life of an idle worker


def stopping() -> bool:
    """Whether this worker was told to stop."""
    return _shared[_STOP] != 0


def device() -> Device:
    """The device that the supervisor pinned this worker to."""
    name = os.environ.get("PIXMILL_DEVICE_NAME", CPU.name)
    return Device(name, os.environ.get("PIXMILL_DEVICE", ""), os.environ.get("PIXMILL_DEVICE_TITLE", CPU.title))


def station() -> Station | TrainingStation:
    """This process's station, made at first use, in the child."""
    global _station  # noqa: PLW0603  Celery gives a task nowhere else to keep what lives as long as its process
    if _station is None:
        _station = _make_station()
    return _station


def _make_station() -> Station | TrainingStation:
    if QUEUE == "train":
        from worker.training.station import TrainingStation

        return TrainingStation(settings, device(), stopping)
    from worker.station import Station

    return Station(settings, device(), stopping)


@app.task(name=DRAIN)
def drain(job_id: int | None = None) -> None:
    """The doorbell: work on whatever is due until the queue is empty. The job's id only says who rang."""
    log.debug("rung for job %s", job_id)
    _shared[_BUSY] = 1  # before looking at STOP: whoever stops us looks the other way round
    try:
        while not stopping() and not _drained():
            time.sleep(RETRY_S)
    finally:
        _shared[_BUSY] = 0


def _drained() -> bool:
    """One try to empty the queue; False where it is worth another."""
    from store.errors import StoreError

    try:
        with _at_work:
            station().drain()
    except StoreError as error:
        log.warning("the database is away: %s", error)
        with suppress(StoreError):  # leases that cannot be given up end by themselves; the sweeper rings again
            station().abandon(error)
    except DeviceError as error:
        station().abandon(error)
        _break(error)
    except Exception as error:  # the task boundary: one of the two doors
        log.exception("a shard failed")
        station().abandon(error)
        return False
    return True


def _break(error: Exception) -> None:
    """This process cannot work, and neither could its successor: the parent ends, and tells the supervisor."""
    log.error("this worker cannot work: %s: %s", type(error).__name__, error)
    _shared[_BROKEN] = 1
    os.kill(os.getppid(), signal.SIGTERM)


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    logging.basicConfig(
        level=settings.log_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("celery").setLevel(max(logging.WARNING, logging.getLogger().level))


@worker_process_init.connect
def _child_begins(**_: Any) -> None:
    die_with_parent()
    _shared[_BUSY] = 0  # a predecessor may have died at work
    threading.Thread(target=_get_ready, daemon=True).start()
    threading.Thread(target=_stay_seen, daemon=True).start()


def _get_ready() -> None:
    """Import what is heavy while the parent still connects to the broker; free what a dead predecessor held."""
    from store.errors import SchemaMismatch, StoreError

    if QUEUE == "classify" and device().kind == "cpu" and settings.engine in ("auto", "openvino"):
        threading.Thread(target=_import_engine, daemon=True).start()
    try:
        with _at_work:
            station().place.check()
            freed = station().place.take()
        if freed:
            _ring()
    except SchemaMismatch as error:
        _break(error)
    except StoreError as error:
        log.warning("the database is away: %s", error)  # the sweeper rings when there is work
    except Exception as error:  # outside of any task: nobody else would hear of it
        log.exception("no start")
        _break(error)


def _stay_seen() -> None:
    from store.errors import StoreError

    while True:
        time.sleep(min(SEEN_S, settings.lease_s / 3))
        if _station is not None:
            with suppress(StoreError):
                _station.place.stay_seen()


def _import_engine() -> None:
    from models.engines.openvino import import_openvino

    import_openvino()


def _ring() -> None:
    """Ring our own doorbell, as well as it goes: without a broker the sweeper does it later."""
    try:
        drain.apply_async(retry=False, queue=QUEUE)
    except BROKER_ERRORS as error:
        log.info("not rung: %s", error)


@worker_ready.connect
def _ready(**_: Any) -> None:
    log.warning("the %s worker on %s is ready", QUEUE, device().title)
    _ring()  # there may be work already, and nobody else who rings


@worker_shutting_down.connect
def _told_to_stop(**_: Any) -> None:
    _shared[_STOP] = 1
    threading.Thread(target=_leave_when_idle).start()


def _leave_when_idle() -> None:
    """End as soon as the child has given back what it held. Celery's own way out takes two seconds more.

    All that is cut short is the connection to the broker, which holds nothing but hints.
    """
    while _shared[_BUSY]:
        time.sleep(IDLE_POLL_S)
    os._exit(MISCONFIGURED if _shared[_BROKEN] else 0)
