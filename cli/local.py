"""The embedded local mode: broker and workers for as long as a command runs, and nothing left behind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from cli.errors import CommandError, Exit
from cli.output import say
from worker.devices import Device
from worker.settings import Settings
from worker.supervisor import Supervisor

Check = Callable[[], None]


def is_embedded(chosen: Settings) -> bool:
    """Whether commands start their own workers: yes, unless a broker was configured that others serve."""
    return chosen.broker_url is None


def queues_for(kind: str) -> Sequence[str]:
    """The queues that a job of this kind needs: a training is evaluated by a classify job."""
    return ("classify", "train") if kind == "finetune" else ("classify",)


@contextmanager
def local_stack(chosen: Settings, devices: Sequence[Device], queues: Sequence[str] = ("classify",)) -> Iterator[Check]:
    """Run broker and workers for these queues around a command. Raises BrokerError, OSError.

    Yields a function that raises CommandError once no worker can run any more; call it while waiting.
    SIGTERM ends the command like Ctrl-C, so that the workers are stopped in order.
    """
    supervisor = Supervisor(chosen, devices, notify=say, queues=queues)
    before = signal.signal(signal.SIGTERM, _interrupt)

    def check() -> None:
        if supervisor.is_hopeless:
            raise CommandError(f"No worker can run here; {chosen.log_folder} says why.", Exit.UNEXPECTED)

    try:
        supervisor.start()
        yield check
    finally:
        supervisor.stop()
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: int | FrameType | None) -> None:
    raise KeyboardInterrupt
