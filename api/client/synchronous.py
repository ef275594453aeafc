"""The client for programs that wait: `Client`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any, TypeVar

import httpx2

from api.client import calls, shapes
from api.client.calls import form_of
from api.client.connection import Connection
from api.client.errors import BrokenAnswer, ClientError, Unavailable, Unreachable
from api.client.events import Event, Trail
from api.client.files import Sending
from api.client.manifests import sendings
from api.client.retrying import PATIENCE_S
from api.client.sending import Letter, in_order
from api.client.tables import Table
from models.records import ModelFacts
from store.facets import Summary
from store.results import Filter, ResultRow
from store.rows import JobRow
from store.run_rows import EpochRow, FindingRow, RunRow
from store.way import Order
from worker.comparing import Comparison

T = TypeVar("T")


class Client(Connection):
    """A Pixmill server. Close it, or use it as a context manager; safe for many threads at once.

    `server` and `token` default to PIXMILL_SERVER and PIXMILL_TOKEN; of a server on this machine, to the token in the
    home folder. `timeout_s` is for one answer, not for streams; `patience_s`, how long to wait for a server that takes
    no connection, as one that restarts. `transport` is for tests. Methods raise ClientError.
    """

    # Submitting

    def submit(self, source: Mapping[str, Any], kind: str = "classify", **chosen: Any) -> JobRow:
        """Submit a job: `source` is one of folder, paths, files, manifest, archive (on the server) or upload.

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
        """Send files, whole folders, or one manifest and what it names; returns the id for `{"upload": id}`."""
        with sendings(paths) as files:
            return self.send(files)

    def send(self, files: Iterable[Sending], note: Callable[[int], None] | None = None) -> str:
        """Send files as one upload, several at once; `note` hears how many are there, in their order.

        Forgets the upload where that fails.
        """
        upload_id = self.call(calls.open_upload())

        def put(sending: Sending, given_up: Flag) -> None:
            self.call(calls.put_file(upload_id, sending.name), partial(Letter, sending.path, given_up))

        try:
            with closing(in_order(put, files)) as arrivals:
                for n in arrivals:
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
        return self.call(calls.pause(job_id))

    def resume(self, job_id: int, max_failures: str | int | None = None) -> JobRow:
        """Let a paused job go on, or the rest of one that failed; from now on up to so many failures (500, "5%")."""
        return self.call(calls.resume(job_id, max_failures))

    def cancel(self, job_id: int, *, keep_best: bool = False) -> JobRow:
        """Cancel a job; a training, with `keep_best`, makes a model of its best epoch."""
        return self.call(calls.cancel(job_id, keep_best=keep_best))

    def retry(self, job_id: int, codes: Sequence[str] = (), max_failures: str | int | None = None) -> JobRow:
        """Run again what failed, and what was never run."""
        return self.call(calls.retry(job_id, codes, max_failures))

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

    def results(self, job_id: int, *, order: Order = "item", **chosen: Any) -> Iterator[ResultRow]:
        """Every matching result, streamed; `chosen` as in store.results.Filter: label, status, min_score, wrong, …"""
        return self.matching(job_id, Filter(**chosen), order)

    def matching(self, job_id: int, chosen: Filter | None = None, order: Order = "item") -> Iterator[ResultRow]:
        """Every result that a filter chooses, streamed."""
        return self._rows(calls.results(job_id, chosen, "jsonl", order))

    def across(self, *, model: str | None = None, order: Order = "item", **chosen: Any) -> Iterator[ResultRow]:
        """Every matching result of all jobs, the newest first; `model` (`birds`, `birds@3`) or `label` is needed."""
        return self._rows(calls.across(model, Filter(**chosen), order))

    def _rows(self, call: calls.Call[None]) -> Iterator[ResultRow]:
        with self.stream(call) as response:
            for line in response.iter_lines():
                yield shapes.result_of(json.loads(line))

    def table(self, job_id: int, **chosen: Any) -> Table:
        """Every matching result, in memory, as columns."""
        return Table.of(self.results(job_id, **chosen))

    def download(self, job_id: int, file: str | Path, *, order: Order = "item", **chosen: Any) -> int:
        """Write all matching results to a .csv, .jsonl or .parquet file, as the server streams it; returns its bytes.

        The file is there whole or not at all. Raises BrokenAnswer, ValueError for another ending.
        """
        path = Path(file)
        return self.save(calls.results(job_id, Filter(**chosen), form_of(path), order), path)

    def label(self, job_id: int, idx: int, text: str) -> None:
        """Give an item the label that it should have; what the model said stays."""
        self.call(calls.label(job_id, idx, text))

    def evaluation(self, job_id: int) -> Mapping[str, Any]:
        """How good the model was in a job over labelled images: figures, classes, confusion matrix. Raises NotFound."""
        return self.call(calls.evaluation(job_id))

    def record_evaluation(self, job_id: int, split: str | None = None) -> Mapping[str, Any]:
        """Have the figures of a job that is over, over labelled images, written into the server's database."""
        return self.call(calls.record_evaluation(job_id, split))

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

    def tokens(self) -> Iterator[Mapping[str, Any]]:
        """Every token, the oldest first, without its secret. Needs an admin's token, as the next two do."""
        return self.pages(calls.tokens)

    def make_token(self, name: str, **chosen: Any) -> Mapping[str, Any]:
        """Make a token; `chosen`: owner, scope, expires_in_days, and its limits. Its secret is in this answer only."""
        return self.call(calls.make_token({"name": name, **chosen}))

    def revoke_token(self, token_id: str) -> None:
        """End a token for good."""
        self.call(calls.revoke_token(token_id))

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
