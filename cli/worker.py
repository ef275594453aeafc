"""`pixmill worker`: workers that stay, one per device, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from cli.context import COMING_UP_S, make_home, open_database, settings
from cli.errors import CommandError, Exit
from cli.opening import stays_here
from cli.output import say

ENGINES = ("auto", "openvino", "keras", "fake")
QUEUES = ("classify", "train")


def worker(
    devices: Annotated[
        str, typer.Option(help="auto (every GPU, else the CPU), cpu, or GPU numbers or UUIDs.")
    ] = "auto",
    engine: Annotated[str | None, typer.Option(help="auto, openvino, keras or fake.")] = None,
    queues: Annotated[str, typer.Option(help="classify, train, or both.")] = "classify,train",
) -> None:
    """Run one worker per device and queue, and keep them running. Ctrl-C lets them finish a batch, or checkpoint."""
    from worker.devices import find_devices
    from worker.settings import Settings
    from worker.supervisor import Supervisor

    stays_here("worker")
    chosen = settings()
    if engine not in (None, *ENGINES):
        raise CommandError(f"--engine: expected {', '.join(ENGINES)}, got {engine!r}.")
    served = served_queues(queues)
    if engine is not None:
        chosen = Settings.model_validate({**chosen.model_dump(), "engine": engine})
    make_home(chosen)
    found = find_devices(devices)
    with open_database(chosen, create=chosen.database_url is None, wait_s=COMING_UP_S):
        pass
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor(chosen, found, notify=say, queues=served)
    supervisor.start()
    names = ", ".join(
        device.title if device.kind == "cpu" else f"{device.title} ({device.visible})" for device in found
    )
    count = len(found) * len(served)
    workers = f"{count} worker{'s' if count > 1 else ''}"
    say(f"Ready: {workers} on {names}, for {' and '.join(served)}. Logs: {chosen.log_folder}. Ctrl-C stops.")
    while not ended.wait(1.0) and not supervisor.is_hopeless:
        pass
    hopeless = supervisor.is_hopeless
    say("Stopping: workers finish their batch, or write their checkpoint, and give the rest back.")
    supervisor.stop()
    if hopeless:
        raise CommandError(f"No worker can run here; {chosen.log_folder} says why.", Exit.UNEXPECTED)
    say("Stopped.")


def served_queues(text: str) -> tuple[str, ...]:
    """The queues that a text like `classify,train` names, each once. Raises CommandError."""
    named = dict.fromkeys(part.strip() for part in text.split(","))
    if unknown := [name for name in named if name not in QUEUES]:
        raise CommandError(f"--queues: expected {' or '.join(QUEUES)}, or both with a comma, got {unknown[0]!r}.")
    return tuple(named)
