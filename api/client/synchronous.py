"""The client for programs that wait: `Client`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from api.client import calls, shapes
from api.client.calls import form_of
from api.client.connection import Connection
from api.client.errors import BrokenAnswer, ClientError, Unavailable, Unreachable
from api.client.events import PATIENCE_S, Event, Trail
from api.client.files import Sending, files_of
from api.client.tables import Table
from models.records import ModelFacts
from store.facets import Summary
from store.results import Filter, ResultRow
from store.rows import JobRow
from store.run_rows import EpochRow, FindingRow, RunRow
from worker.comparing import Comparison

T = TypeVar("T")


class Client(Connection):
    """A Pixmill server. Close it, or use it as a context manager; safe for many threads at once.

    `server` and `token` default to PIXMILL_SERVER and PIXMILL_TOKEN; of a server on this machine, to the token in the
    home folder. `timeout_s` is for one answer, not for streams. `transport` is for tests. Methods raise ClientError.
    """

    # Submitting

    def submit(self, source: Mapping[str, Any], kind: str = "classify", **chosen: Any) -> JobRow:
        """Submit a job: `source` is one of folder, paths, manifest, archive (on the server) or upload.

        `chosen` is what docs/api.md lists for the kind: model, labels, top_k, reuse, priority, include, exclude, …
        """
        return self.call(calls.submit({"kind": kind, "source": dict(source), **chosen}))

    def submit_folder(self, folder: str | Path, model: str | None = None, **chosen: Any) -> JobRow:
        """Classify a folder that the server sees."""
        return self.submit({"folder": str(folder)}, model=model, **chosen)

    def finetune(self, source: Mapping[str, Any], name: str, **chosen: Any) -> JobRow:
        """Train a model on labelled pictures."""
        return self.submit(source, "finetune", name=name, **chosen)

    def evaluate(self, source: Mapping[str, Any], model: str, **chosen: Any) -> JobRow:
        """Classify labelled pictures, to measure a model by them."""
        return self.submit(source, "evaluate", model=model, **chosen)

    def estimate(self, source: Mapping[str, Any], kind: str = "classify", **chosen: Any) -> Mapping[str, Any]:
        """What a submission would be: images, formats, sizes, seconds. Makes no job."""
        return self.call(calls.estimate({"kind": kind, "source": dict(source), **chosen}))

    def upload(self, paths: Sequence[str | Path]) -> str:
        """Send files, or folders with all that is in them; returns the id for `{"upload": id}`."""
        return self.send(files_of(paths))

    def send(self, files: Iterable[Sending], note: Callable[[int], None] | None = None) -> str:
        """Send files as one upload; `note` hears how many are there. Forgets the upload where that fails."""
        upload_id = self.call(calls.open_upload())
        try:
            for n, sending in enumerate(files, 1):
                self.call(calls.put_file(upload_id, sending.name), sending.open)
                if note is not None:
                    note(n)
        except BaseException:
            self._forget(upload_id)
            raise
        return upload_id

    def _forget(self, upload_id: str) -> None:
        try:
            self.call(calls.remove_upload(upload_id))
        except ClientError:
            return  # what went wrong first is what counts, and uploads expire

    def classify(
        self, image: str | Path, model: str | None = None, *, top_k: int = 5, wait_s: int = 10
    ) -> ResultRow | JobRow:
        """Classify one picture; its job where the answer is not there in time."""
        path = Path(image)
        return self.call(calls.classify(path.name, model, top_k, wait_s), lambda: path.open("rb"))

    # Jobs

    def jobs(self, limit: int | None = None, **chosen: Any) -> Iterator[JobRow]:
        """Jobs, the newest first; `chosen`: state, kind, model, owner."""
        return self.pages(partial(calls.jobs, **chosen), limit)

    def job(self, job_id: int) -> JobRow:
        """One job."""
        return self.call(calls.job(job_id))

    def summary(self, job_id: int) -> Summary:
        """Classes, failures by reason, agreement with true labels."""
        return self.call(calls.summary(job_id))

    def pause(self, job_id: int) -> JobRow:
        """Pause a job."""
        return self.call(calls.move(job_id, "pause"))

    def resume(self, job_id: int) -> JobRow:
        """Let a paused job go on."""
        return self.call(calls.move(job_id, "resume"))

    def cancel(self, job_id: int, *, keep_best: bool = False) -> JobRow:
        """Cancel a job; a training, with `keep_best`, makes a model of its best epoch."""
        return self.call(calls.cancel(job_id, keep_best=keep_best))

    def retry(self, job_id: int, codes: Sequence[str] = ()) -> JobRow:
        """Run again what failed, and what was never run."""
        return self.call(calls.retry(job_id, codes))

    def set_priority(self, job_id: int, priority: int) -> JobRow:
        """0 goes first, 9 last."""
        return self.call(calls.set_priority(job_id, priority))

    def remove(self, job_id: int) -> None:
        """Remove a finished job with all its rows."""
        self.call(calls.remove(job_id))

    def follow(self, job_id: int, *, last_event_id: str = "", patience_s: float = PATIENCE_S) -> Iterator[Event]:
        """Every event of a job until it ends; goes on by itself over connections that break.

        Raises Unreachable once the server was away for `patience_s`; the last event's id goes on from there.
        """
        trail = Trail(self.address.url, last_event_id, patience_s)
        while not trail.ended:
            try:
                yield from self._events(job_id, trail)
            except (Unreachable, BrokenAnswer) as error:
                time.sleep(trail.lost(error))
            else:
                if not trail.ended:
                    time.sleep(trail.lost())

    def _events(self, job_id: int, trail: Trail) -> Iterator[Event]:
        with self.stream(calls.events(job_id, trail.headers)) as response:
            if response.status_code == httpx2.codes.NO_CONTENT:
                trail.ended = True
                return
            for sent in httpx2.EventSource(response):
                if not sent.data:  # only says how long to wait before coming back
                    continue
                yield trail.note(sent)
                if trail.ended:
                    return

    def wait(self, job_id: int) -> JobRow:
        """Wait for the end of a job; returns how it stands then."""
        for _ in self.follow(job_id):
            pass
        return self.job(job_id)

    # Results

    def results(self, job_id: int, **chosen: Any) -> Iterator[ResultRow]:
        """Every matching result, streamed; `chosen` as in store.results.Filter: label, status, min_score, wrong, …"""
        return self.matching(job_id, Filter(**chosen))

    def matching(self, job_id: int, chosen: Filter | None = None) -> Iterator[ResultRow]:
        """Every result that a filter chooses, streamed."""
        with self.stream(calls.results(job_id, chosen, "jsonl")) as response:
            for line in response.iter_lines():
                yield shapes.result_of(json.loads(line))

    def table(self, job_id: int, **chosen: Any) -> Table:
        """Every matching result, in memory, as columns."""
        return Table.of(self.results(job_id, **chosen))

    def download(self, job_id: int, file: str | Path, **chosen: Any) -> int:
        """Write all matching results to a .csv, .jsonl or .parquet file, as the server streams it; returns its bytes.

        The file is there whole or not at all. Raises BrokenAnswer, ValueError for another ending.
        """
        path = Path(file)
        return self.save(calls.results(job_id, Filter(**chosen), form_of(path)), path)

    def label(self, job_id: int, idx: int, text: str) -> None:
        """Give an item the label that it should have; what the model said stays."""
        self.call(calls.label(job_id, idx, text))

    # Runs and models

    def runs(self, limit: int | None = None, **chosen: Any) -> Iterator[RunRow]:
        """Runs, the newest first."""
        return self.pages(partial(calls.runs, **chosen), limit)

    def run(self, name: str | int) -> RunRow:
        """One run: by number, name (the newest), or the model that it made."""
        return self.call(calls.run(name))

    def epochs(self, run_id: int) -> Sequence[EpochRow]:
        """The history of a run."""
        return list(self.pages(partial(calls.epochs, run_id)))

    def findings(self, run_id: int) -> Sequence[FindingRow]:
        """What was found odd in the pictures of a run."""
        return list(self.pages(partial(calls.findings, run_id)))

    def compare(self, one: int, other: int) -> Comparison:
        """Two runs beside each other."""
        return self.call(calls.compare(one, other))

    def models(self) -> Iterator[ModelFacts]:
        """Every version of every model."""
        return self.pages(calls.models, None)

    def model(self, reference: str) -> ModelFacts:
        """One version with its labels: NAME, NAME@VERSION or NAME@ALIAS."""
        return self.call(calls.model(reference))

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """The workers that signed in."""
        return self.call(calls.workers())

    def ready(self) -> Mapping[str, Any]:
        """Whether the server can do work now: its `status`, and its `checks`, part by part."""
        try:
            return self.call(calls.ready())
        except Unavailable as error:
            if "checks" in error.problem:
                return error.problem
            raise

    @contextmanager
    def sql(self, query: str, *, timeout_s: float = 600) -> Iterator[tuple[list[str], Iterator[list[Any]]]]:
        """Ask the server's database, read-only: the columns, and the rows as they come. Needs an admin's token."""
        with self.stream(calls.sql(query, timeout_s)) as response:
            lines = (json.loads(line) for line in response.iter_lines() if line)
            yield next(lines)["columns"], lines
