"""The desk of a server: what PIXMILL_SERVER names, asked over HTTP by `api.client`."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.client import ApiError, Client, NotAllowed, NotFound, Unreachable, calls, shapes
from api.client.retrying import PATIENCE_S
from cli.context import only_model
from cli.desk import Check, ClassifyOrder, EvaluateOrder, Finding, FinetuneOrder, Progress, Submit
from cli.errors import CommandError, Exit
from cli.output import say
from worker.settings import Settings

if TYPE_CHECKING:
    from models.records import ModelFacts
    from models.wishes import Overrides
    from store.asking import Answer
    from store.facets import Summary
    from store.results import Filter, ResultRow
    from store.rows import JobRow
    from store.run_rows import EpochRow, FindingRow, RunRow
    from store.way import Order
    from worker.comparing import Comparison
    from worker.measuring import Measured
    from worker.reporting.metrics import Evaluation


@contextmanager
def remote_desk(chosen: Settings) -> Iterator[RemoteDesk]:
    """The desk of the server that the settings name. Raises CommandError where that is no address."""
    try:
        client = Client(chosen.server, chosen.token)
    except ValueError as error:
        raise CommandError(f"PIXMILL_SERVER: {error}") from error
    with client:
        yield RemoteDesk(client, chosen)


@dataclass(slots=True)
class RemoteDesk:
    """Asks a server. Errors are ApiErrors, with the exit codes that the same thing has on this machine."""

    client: Client
    settings: Settings
    _records: dict[int, dict[str, Any]] = field(default_factory=dict)  # of runs, as the server told them last

    @property
    def where(self) -> str:
        """The server's address."""
        return f"Server: {self.client.address.url}"

    @property
    def works_here(self) -> bool:
        """Jobs go on without this command."""
        return False

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Every question waits as long for the server as the events of a job that is followed do."""
        before, self.client.patience_s = self.client.patience_s, PATIENCE_S
        try:
            yield
        finally:
            self.client.patience_s = before

    # Jobs

    def jobs(self, limit: int) -> Sequence[JobRow]:
        """The newest jobs first, of the token's owner."""
        return list(self.client.jobs(limit))

    def job(self, job_id: int) -> JobRow:
        """Raises NotFound."""
        return self.client.job(job_id)

    def watch(self, job_id: int, check: Check) -> Iterator[JobRow]:
        """By the server's events. Raises CommandError that says how to follow again where the server goes away."""
        row = self.job(job_id)
        yield row
        if _rests(row):
            return
        try:
            for event in self.client.follow(job_id):
                check()
                told = {name: event.data[name] for name in _TOLD if name in event.data}
                row = replace(row, **told) if event.kind == "progress" else self.job(job_id)
                yield row
                if _rests(row):
                    return
        except Unreachable as error:
            raise CommandError(
                f"{error} Job {job_id} goes on as soon as it can. Follow it again: `pixmill jobs follow {job_id}`.",
                Exit.UNREACHABLE,
            ) from error
        yield self.job(job_id)

    def summary(self, job_id: int) -> Summary:
        """Raises NotFound."""
        return self.client.summary(job_id)

    def pause(self, job_id: int) -> None:
        """Raises NotFound, Conflict."""
        self.client.pause(job_id)

    def resume(self, job_id: int, max_failures: str | None = None) -> None:
        """Raises NotFound, Conflict."""
        self.client.resume(job_id, max_failures)

    def cancel(self, job_id: int, *, keep_best: bool = False) -> None:
        """Raises NotFound, Conflict."""
        self.client.cancel(job_id, keep_best=keep_best)

    def retry(self, job_id: int, codes: Sequence[str] = (), max_failures: str | None = None) -> int:
        """Raises NotFound, Conflict."""
        return self.client.retry(job_id, codes, max_failures).pending

    def remove(self, job_id: int) -> None:
        """Raises NotFound, Conflict."""
        self.client.remove(job_id)

    # Work: the server checks most of it; what can be seen from here is refused before anything is sent

    def classify(self, order: ClassifyOrder) -> Submit:
        """Raises SourceError, NotFound."""
        from cli.sending import Parcel

        parcel = Parcel(self.client, self.settings, order.pictures)
        chosen = {
            "labels": order.pictures.labels,
            "model": self._find(order.model),
            "top_k": order.top_k,
            "max_failures": order.max_failures,
        }
        return lambda: self._submit("classify", {**parcel.body(), **chosen}, reuse=order.reuse, priority=order.priority)

    def evaluate(self, order: EvaluateOrder) -> Submit:
        """Raises SourceError, NotFound."""
        from cli.sending import Parcel

        parcel = Parcel(self.client, self.settings, order.pictures)
        chosen = {"model": self._find(order.model), "split": order.split}
        return lambda: self._submit("evaluate", {**parcel.body(), **chosen}, reuse=order.reuse, priority=order.priority)

    def finetune(self, order: FinetuneOrder) -> Submit:
        """Raises SourceError, InvalidModel, NotFound."""
        from cli.sending import Parcel
        from models.references import check_name

        recipe = order.recipe.model_dump(mode="json", exclude_none=True)
        chosen = {"name": check_name(order.name), "recipe": recipe, "allow_leaks": order.allow_leaks}
        if order.pictures is None or order.continued_from is not None:
            going_on = {"continue_run": order.continued_from.id} if order.continued_from is not None else {}
            return lambda: self._submit("finetune", {**chosen, **going_on}, priority=order.priority)
        parcel = Parcel(self.client, self.settings, order.pictures)
        if order.recipe.base is not None:
            self._find(order.recipe.base)
        return lambda: self._submit("finetune", {**parcel.body(), **chosen}, priority=order.priority)

    def _submit(self, kind: str, body: Mapping[str, Any], **further: Any) -> int:
        said = {name: value for name, value in {**body, **further}.items() if value is not None}
        return self.client.call(calls.submit({"kind": kind, **said})).id

    def _find(self, reference: str | None) -> str:
        """The model to use; a preset that is not there yet is fetched by the server. Raises NotFound, CommandError."""
        from models.presets import PRESETS

        if reference is None:
            return only_model(version.name for version in self.client.models())
        try:
            self.client.model(reference)
        except NotFound:
            if reference not in PRESETS:
                raise
            say(f"{reference} is not there yet: the server fetches about {PRESETS[reference].download_mb} MB, once.")
            self.client.call(calls.pull_model(reference, None))
        return reference

    def at_work(self, queues: Sequence[str], device: str = "auto") -> AbstractContextManager[Check]:  # noqa: ARG002
        """Nothing to do: the server's workers are its own."""
        return nullcontext(_nothing)

    # Results

    def results(self, job_id: int, chosen: Filter | None = None, order: Order = "item") -> Iterator[ResultRow]:
        """Streamed by the server. Raises NotFound, BrokenAnswer."""
        return self.client.matching(job_id, chosen, order)

    def export(self, job_id: int, chosen: Filter | None, out: Path, order: Order = "item") -> None:
        """The very bytes that the server streams. Raises NotFound, BrokenAnswer."""
        self.client.save(calls.results(job_id, chosen, calls.form_of(out), order), out)

    @contextmanager
    def original(self, row: ResultRow, *, stays: bool = False) -> Iterator[Path]:
        """On this machine where it always was, else a copy that is downloaded. Raises OSError, CommandError."""
        here = Path(os.fsdecode(row.path))
        if self.client.address.is_loopback and here.is_file():
            yield here
            return
        if stays:
            raise CommandError(
                f"--link needs the files here, and {self.client.address.url} has them: leave --link away."
            )
        with tempfile.TemporaryDirectory(prefix="pixmill-") as folder:
            copy = Path(folder, "original")
            self._fetch(row.job_id, row.idx, copy)
            yield copy

    def _fetch(self, job_id: int, idx: int, copy: Path) -> None:
        try:
            self.client.save(calls.original(job_id, idx), copy)
        except NotFound as error:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
        except ApiError as error:
            if error.status < 500 and error.status not in (401, 403, 429):
                raise OSError(errno.EIO, str(error)) from error
            raise

    def measure(self, job_id: int) -> Measured | None:
        """As the server measured it."""
        try:
            record = self.client.call(calls.evaluation(job_id))
        except NotFound:
            return None
        return shapes.measured_of(record, self.job(job_id).top_k)

    def conclude(self, job_id: int, split: str | None, report: Path) -> tuple[Evaluation, Path]:
        """Measured here, from the rows and with the pictures that the server gives; it writes the figures down too."""
        from cli.concluding import conclude_elsewhere

        concluded = conclude_elsewhere(self, self.job(job_id), report)
        try:
            self.client.record_evaluation(job_id, split)
        except NotAllowed:
            say("This token may only read: the figures are not written into the server's database.", "yellow")
        return concluded

    @contextmanager
    def query(self, text: str) -> Iterator[Answer]:
        """Raises Invalid."""
        from store.asking import Answer

        with self.client.sql(text) as (columns, rows):
            yield Answer(columns, rows)

    # Runs

    def runs(self, limit: int) -> Sequence[RunRow]:
        """The newest runs first, of the token's owner."""
        return [self._noted(record) for record in self.client.pages(_raw_runs, limit)]

    def run(self, text: str) -> RunRow:
        """Raises UnknownRun."""
        from store.errors import UnknownRun

        try:
            return self._noted(self.client.call(calls.run(text).raw))
        except NotFound as error:
            raise UnknownRun(text) from error

    def run_of_job(self, job_id: int) -> RunRow:
        """Raises NotFound."""
        found = self.client.call(calls.job(job_id).raw).get("run")
        if found is None:
            raise CommandError(f"Job {job_id} is no training, and has no run.", Exit.NOT_FOUND)
        return self._noted(found) if isinstance(found, dict) else self.run(str(found))

    def _noted(self, record: dict[str, Any]) -> RunRow:
        self._records[record["run"]] = record
        return shapes.run_of(record)

    def run_record(self, run: RunRow) -> dict[str, Any]:
        """What the server said of it last."""
        return self._records[run.id]

    def epochs(self, run_id: int) -> Sequence[EpochRow]:
        """The history of a run."""
        return self.client.epochs(run_id)

    def findings(self, run_id: int) -> Sequence[FindingRow]:
        """What the survey found."""
        return self.client.findings(run_id)

    def compare(self, one: RunRow, other: RunRow) -> Comparison:
        """As the server compares them."""
        return self.client.compare(one.id, other.id)

    # Models

    def models(self) -> Sequence[ModelFacts]:
        """Every version in the server's registry."""
        return list(self.client.models())

    def model(self, reference: str) -> ModelFacts:
        """Raises NotFound."""
        return self.client.model(reference)

    def import_model(
        self, file: Path, *, name: str | None, labels: Path | None, overrides: Overrides, progress: Progress
    ) -> ModelFacts:
        """Sent to the server, which checks it as `models import` does here. Raises Invalid, OSError."""
        from cli.model_parcels import wishes

        said = wishes(file, name, labels, overrides)
        progress(f"sending {file.name} ({file.stat().st_size / 1e6:.1f} MB)")
        call = calls.import_model(file.name, name=name, **said)
        return _added(self.client.call(call, lambda: file.open("rb")), progress)

    def pull_model(self, preset: str, *, name: str | None, progress: Progress) -> ModelFacts:
        """The server fetches it. Raises NotFound, Unavailable."""
        return _added(self.client.call(calls.pull_model(preset, name)), progress)

    def export_model(self, reference: str, destination: Path) -> Path:
        """The .zip that the server makes, unpacked where a folder is wanted. Raises NotFound, InvalidModel."""
        from cli.model_parcels import unpacked

        return unpacked(destination, partial(self.client.save, calls.export_model(reference)))

    def alias_model(self, reference: str, alias: str) -> ModelFacts:
        """Raises NotFound, Invalid."""
        version = self.client.model(reference)
        return self.client.call(calls.alias(version.name, version.version, alias))

    def remove_model(self, reference: str, *, force: bool) -> str:
        """Raises NotFound, Conflict."""
        found = self.client.model(reference).reference
        self.client.call(calls.remove_model(found, force=force))
        return found

    # The place itself

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """The workers that serve it."""
        return self.client.workers()

    def examine(self, *, quick: bool) -> Iterator[Finding]:
        """What the server says of itself, and what it says of the token."""
        address = self.client.address
        answer = self.client.ready()
        yield Finding("server", answer["status"] == "ready", f"{address.url} is {answer['status']}")
        for name, check in (answer.get("checks") or {}).items():
            yield Finding(name, check["ok"], check["detail"])
        if not quick:
            yield self._token()

    def _token(self) -> Finding:
        try:
            known = self.client.call(calls.whoami())
        except ApiError as error:
            return Finding("token", False, str(error))
        owner = known["owner"] or "the installation's own"
        return Finding("token", True, f"{owner}, may {', '.join(known['scopes'])}")


_TOLD = ("found", "classified", "failed", "reused", "trouble")  # of a job, by its events of progress


def _rests(row: JobRow) -> bool:
    from store.states import JobState

    return row.state.is_final or row.state is JobState.PAUSED


def _raw_runs(cursor: str | None, size: int) -> calls.Call[tuple[list[dict[str, Any]], str | None]]:
    call: calls.Call[tuple[list[dict[str, Any]], str | None]] = replace(
        calls.runs(cursor, size).raw, read=lambda answer: (answer["items"], answer["next"])
    )
    return call


def _added(record: Mapping[str, Any], progress: Progress) -> ModelFacts:
    from api.words import for_shell
    from models.records import ModelFacts

    for note in record.get("notes", ()):
        progress(f"note: {for_shell(note)}")
    return ModelFacts.from_record(record)


def _nothing() -> None:
    """Workers elsewhere are not ours to check."""
