"""Writes a training's epochs as TensorBoard's event files, without TensorFlow: its own writer would import it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from worker.reporting.logged import flattened, measured
from worker.reporting.rows import EpochLine

log = logging.getLogger(__name__)


class TensorBoardLog:
    """One event file of one attempt in the run's folder; TensorBoard joins those of one folder to one curve."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder by their names: the time makes a later attempt's the later one.
        path = folder / f"events.out.tfevents.{time.time_ns():020}.{os.getpid()}.pixmill"
        self._file: BinaryIO = path.open("ab")
        self._records = RecordWriter(self._file)
        self._begun = False
        self._last = 0
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        choices = "\n".join(f"    {name} = {value}" for name, value in flattened(recipe))
        self._write(self._event(0, [_text("recipe", choices)]))

    def epoch(self, epoch: EpochLine) -> None:
        """Log one finished epoch."""
        if not self._begun:  # what an earlier attempt wrote of this epoch and later ones no longer counts
            self._begun = True
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=epoch.epoch, session_log=start))
        self._last = epoch.epoch
        self._write(
            self._event(
                epoch.epoch, [Summary.Value(tag=_tag(name), simple_value=value) for name, value in measured(epoch)]
            )
        )

    def finish(self, metrics: Mapping[str, float], state: str = "done") -> None:
        """Log the final metrics and close the file."""
        values = [Summary.Value(tag=f"evaluation/{name}", simple_value=value) for name, value in metrics.items()]
        self._write(self._event(self._last, [*values, _text("state", state)]))
        self._file.close()

    def _event(self, step: int, values: list[Summary.Value]) -> Event:
        return Event(wall_time=time.time(), step=step, summary=Summary(value=values))

    def _write(self, event: Event) -> None:
        try:
            self._records.write(event.SerializeToString())
            self._file.flush()
        except OSError as error:
            log.warning("The TensorBoard file %s cannot be written: %s.", self._file.name, error)


def _tag(name: str) -> str:
    """Training and validation of one metric side by side: TensorBoard groups tags by what is before the slash."""
    return f"{name.removeprefix('val_')}/validation" if name.startswith("val_") else f"{name}/training"


def _text(name: str, value: str) -> Summary.Value:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    metadata.data_class = 2  # DATA_CLASS_TENSOR
    return Summary.Value(tag=name, metadata=metadata, tensor=TensorProto(dtype=DT_STRING, string_val=[value.encode()]))
