"""Celery's doorway: one short task, and the signals that prepare and end a worker's processes.

The parent process imports nothing heavy; everything that loads a model is imported in the child, after the fork.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery.signals import setup_logging, worker_init, worker_process_init, worker_ready, worker_shutting_down

from worker.app import DRAIN
from worker.childwatch import LOOK_S as WATCH_S
from worker.childwatch import ChildWatch, Limits
from worker.devices import CPU, Device, DeviceError
from worker.dispatch import BROKER_ERRORS
from worker.family import Family
from worker.inhand import hand_path
from worker.main import app, settings
from worker.memory import be_ended_first, memory_limit
from worker.processes import MISCONFIGURED

if TYPE_CHECKING:
    from worker.station import Station
    from worker.training.station import TrainingStation

log = logging.getLogger(__name__)

_family = Family()
IDLE_POLL_S = 0.02
QUEUE = os.environ.get("PIXMILL_QUEUE", "classify")  # the one that this worker serves; its supervisor says it
_station: Station | TrainingStation | None = None
_at_work = threading.Lock()  # one thread at a time uses the station
RETRY_S = 2.0  # after a failure, before the next claim
PULSE_S = 1.0
SEEN_S = 10.0  # at the most between two signs of life of an idle worker
LOOK_S = 1.0  # at the most between two looks for work that nobody rang for
_begin_at = 0.0  # monotonic; nothing is claimed before: this process's predecessors died quickly


def stopping() -> bool:
    """Whether this worker was told to stop."""
    return bool(_family.numbers.is_stopping)


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

    return Station(settings, device(), stopping, _family.got_on)


@app.task(name=DRAIN)
def drain(job_id: int | None = None) -> None:
    """The doorbell: work on whatever is due until the queue is empty. The job's id only says who rang."""
    log.debug("rung for job %s", job_id)
    _family.numbers.is_rung = True  # before looking at `stopping`: whoever stops us looks the other way round
    try:
        _work()
    finally:
        _family.numbers.is_rung = False


def _work() -> None:
    """Empty the queue, unless the worker is to stop."""
    while not stopping() and time.monotonic() < _begin_at:
        time.sleep(IDLE_POLL_S)
    while not stopping() and not _drained():
        time.sleep(RETRY_S)


def _drained() -> bool:
    """One try to empty the queue; False where it is worth another."""
    from store.errors import DatabaseUnavailable, StoreError

    with _at_work:
        try:
            station().drain()
        except DatabaseUnavailable as error:
            log.warning("the database is away: %s", error)
            station().place.owes = True  # whatever it was at, the database may have shards on our name
            with suppress(StoreError):  # leases that cannot be given up end by themselves, or at the next look
                station().abandon(error)
        except DeviceError as error:
            station().abandon(error)
            _break(error)
        except Exception as error:  # the task boundary: one of the two doors
            log.exception("a shard failed")
            with suppress(StoreError):
                station().abandon(error)
            return False
        return True


def _break(error: Exception) -> None:
    """This process cannot work, and neither could its successor: the parent ends, and tells the supervisor."""
    log.error("this worker cannot work: %s: %s", type(error).__name__, error)
    _family.numbers.is_broken = True
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
    global _begin_at  # noqa: PLW0603  as above
    rest_s = _family.begin_child()
    be_ended_first(500)  # rather than the broker, the API or our parent, which would lose more
    _begin_at = time.monotonic() + rest_s
    if rest_s:
        log.warning("processes of this worker died one after the other: this one rests for %.0f s", rest_s)
    threading.Thread(target=_serve, daemon=True).start()
    threading.Thread(target=_stay_seen, daemon=True).start()
    if QUEUE == "classify":
        threading.Thread(target=_pulse, name="pulse", daemon=True).start()


def _serve() -> None:
    """Work on what is there at the start, and on what nobody rings for: the broker may be away, or lose a hint.

    Never returns: the kernel ends a child, such as a trainer, with the thread that started it.
    """
    _get_ready()
    is_first = True
    while True:
        _look(is_first=is_first)
        is_first = False
        time.sleep(min(LOOK_S, settings.lease_s / 3))


def _look(*, is_first: bool) -> None:
    """Work where there is some; at first in any case, to sign in."""
    from store.errors import StoreError

    _family.numbers.is_looking = True  # before looking at `stopping`, as in `drain`
    try:
        if not _at_work.locked() and (is_first or station().place.has_work()):
            _work()
    except StoreError as error:
        log.info("the database is away: %s", error)
    except Exception:  # outside of any task: nobody else would hear of it
        log.exception("no look for work")
    finally:
        _family.numbers.is_looking = False


def _get_ready() -> None:
    """Import what is heavy while the parent still connects to the broker; free what a dead predecessor held."""
    from store.errors import SchemaMismatch, StoreError

    if QUEUE == "classify" and device().kind == "cpu" and settings.engine in ("auto", "openvino"):
        threading.Thread(target=_import_engine, daemon=True).start()
    try:
        with _at_work:
            station().place.check()
            station().place.take()
    except SchemaMismatch as error:
        _break(error)
    except StoreError as error:
        log.warning("the database is away: %s", error)
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


def _pulse() -> None:
    """Show that this interpreter is not held up; see worker.childwatch."""
    from worker.station import Station

    while True:
        time.sleep(PULSE_S)
        if isinstance(_station, Station):
            _station.pulse()


def _import_engine() -> None:
    from models.engines.openvino import import_openvino

    import_openvino()


def _ring() -> None:
    """Ring our own doorbell, as well as it goes: without a broker the sweeper does it later."""
    try:
        drain.apply_async(retry=False, queue=QUEUE)
    except BROKER_ERRORS as error:
        log.info("not rung: %s", error)


@worker_init.connect
def _parent_begins(**_: Any) -> None:
    threading.Thread(target=_family.mind_child, name="mind", daemon=True).start()
    if QUEUE == "classify":
        threading.Thread(target=_watch, name="watch", daemon=True).start()


def _watch() -> None:
    """End the child where it has to end; what it had in hand is then looked at alone. For the parent."""
    limits = Limits(settings.item_s, settings.stall_s, memory_limit(settings.worker_memory_mb))
    watch = ChildWatch(hand_path(settings.run_folder, device().name, QUEUE), limits)
    while True:
        time.sleep(WATCH_S)
        child = _family.numbers.child
        reason = watch.verdict(child)
        if reason is not None and not _family.has_lost_child():
            log.error("process %d is ended: %s", child, reason)
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(child, signal.SIGKILL)


@worker_ready.connect
def _ready(**_: Any) -> None:
    log.warning("the %s worker on %s is ready", QUEUE, device().title)
    _ring()  # there may be work already, and nobody else who rings


@worker_shutting_down.connect
def _told_to_stop(**_: Any) -> None:
    """End as soon as the child has given back what it held.

    Celery's own way out takes two seconds more, and ends a child that works on what it found by itself. All that is
    cut short is the connection to the broker, which holds nothing but hints.
    """
    _family.numbers.is_stopping = True
    while _family.is_working and not _family.has_lost_child():
        time.sleep(IDLE_POLL_S)
    os._exit(MISCONFIGURED if _family.numbers.is_broken else 0)
