"""Models from outside: what may be said about one, its body on the way to the disk, the process that imports it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import Query, Request

from api.context import Context
from api.problems import Problem
from api.schemas.models import FileName, Fraction, Labels, NewName, Size
from models.children import Child, bare_environment, quiet_keras
from models.manifest import Crop, Interpolation, Output, Scale

IMPORT_S = 1_200.0  # for one file; the sandbox in it has its own, shorter limit
PULL_S = 7_200.0
NEEDED = ("keras", "tensorflow", "openvino")
WRITE_AT = 1 << 20  # bytes that are gathered before a write


@dataclass(frozen=True, slots=True)
class Wishes:
    """The query of an import; what is left out is the importer's choice."""

    file: FileName
    name: NewName | None = None
    labels: Annotated[Literal["imagenet"] | None, Query(description="Whose class names it has.")] = None
    label: Labels = ()
    size: Size | None = None
    crop: Crop | None = None
    crop_fraction: Fraction | None = None
    interpolation: Interpolation | None = None
    scale: Annotated[Scale | None, Query(description="The pixel range it was trained on.")] = None
    output: Output | None = None

    def request(self, file: Path) -> dict[str, Any]:
        """What `worker.intake` is asked; class names are written beside the file. Raises Problem."""
        if self.label and self.labels:
            raise Problem("invalid-model", "Expected `label=` for every class, or `labels=imagenet`, got both.")
        labels: str | None = self.labels
        if self.label:
            place = file.with_name("labels.json")
            place.write_text(json.dumps(list(self.label)), encoding="utf-8")
            labels = str(place)
        said = {
            "size": self._sides(),
            "crop": self.crop,
            "crop_fraction": self.crop_fraction,
            "interpolation": self.interpolation,
            "scale": self.scale,
            "output": self.output,
        }
        overrides = {key: value for key, value in said.items() if value is not None}
        return {"file": str(file), "name": self.name, "labels": labels, "overrides": overrides}

    def _sides(self) -> tuple[int, int] | None:
        if self.size is None:
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height or width)


class Intake:
    """One import at a time: each needs gigabytes of memory."""

    def __init__(self, here: Context) -> None:
        self._here = here
        self._busy = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the one. Raises Problem 501 where Keras is not installed, 503 where another import runs."""
        missing = next((name for name in NEEDED if find_spec(name) is None), None)
        if missing is not None:
            raise Problem(
                "not-installed", f"Importing models needs the package {missing}, which is not installed here."
            )
        if not self._busy.acquire(blocking=False):
            raise Problem("unavailable", "Another model is being imported.", retry_after=30)
        try:
            yield
        finally:
            self._busy.release()

    def take(self, folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have it done by a process that may fail. Raises ModelError."""
        pulls = "preset" in request
        # A hub needs proxies and caches as the user set them; neither needs to know our database or tokens.
        outside = {key: value for key, value in os.environ.items() if not key.startswith("PIXMILL_")}
        environment = {**outside, **quiet_keras()} if pulls else bare_environment(folder)
        child = Child("worker.intake", folder, environment, PULL_S if pulls else IMPORT_S)
        return child.ask({**request, "registry": str(self._here.settings.models_folder)})


async def receive(request: Request, file: Path) -> None:
    """Write the body to a new file; nothing blocks the event loop. Raises Problem where it is empty."""
    size, gathered = 0, bytearray()
    with await to_thread.run_sync(file.open, "xb") as target:
        async for chunk in request.stream():
            gathered += chunk
            size += len(chunk)
            if len(gathered) >= WRITE_AT:
                await to_thread.run_sync(target.write, bytes(gathered))
                gathered.clear()
        await to_thread.run_sync(target.write, bytes(gathered))
    if not size:
        raise Problem("invalid", "Expected the model's file as the body, got an empty one.")
