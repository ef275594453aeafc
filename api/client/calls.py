"""Every request that the client sends, as a value: what is sent, and how the answer is read. Nothing is sent here."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from api.client import shapes
from models.records import ModelFacts
from store.facets import Summary
from store.results import Filter, ResultRow
from store.rows import JobRow
from store.run_rows import EpochRow, FindingRow, RunRow
from store.way import Order
from worker.comparing import Comparison

T = TypeVar("T")

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Form = Literal["csv", "jsonl", "parquet"]
PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `path` is below the server's address; `read` turns the JSON of the answer into what was asked for.

    `safe`: sending it twice does what sending it once does. `slow`: the answer may take minutes. `waits`: a client
    that is patient waits for a server that is away.
    """

    method: Method
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = True
    slow: bool = False
    waits: bool = True

    @property
    def raw(self) -> Call[Any]:
        """The same, its answer left as it came."""
        return replace(self, read=_same)


Page = Callable[[str | None, int], Call[tuple[list[T], str | None]]]  # the call for a cursor and a size


def _nothing(_: Any) -> None:
    return None


def _same(answer: Any) -> Any:
    return answer


def _named(name: str | int) -> str:
    """A piece of a path: no slash in a name becomes one of the path."""
    return quote(str(name), safe="@")


def _said(**values: Any) -> dict[str, Any]:
    """What was chosen; what was not is left to the server."""
    return {name: value for name, value in values.items() if value is not None}


def _each(read: Callable[[Any], T]) -> Callable[[Any], tuple[list[T], str | None]]:
    return lambda answer: ([read(one) for one in answer["items"]], answer["next"])


# Jobs


def jobs(cursor: str | None, limit: int, **chosen: Any) -> Call[tuple[list[JobRow], str | None]]:
    """A page of jobs, the newest first."""
    query = _said(cursor=cursor, limit=limit, **chosen)
    return Call("GET", f"{PREFIX}/jobs", _each(shapes.job_of), query)


def job(job_id: int) -> Call[JobRow]:
    """One job."""
    return Call("GET", f"{PREFIX}/jobs/{job_id}", shapes.job_of)


def summary(job_id: int) -> Call[Summary]:
    """How a job went."""
    return Call("GET", f"{PREFIX}/jobs/{job_id}/summary", shapes.summary_of)


def evaluation(job_id: int) -> Call[Mapping[str, Any]]:
    """The evaluation of a job over labelled images, as its record."""
    return Call("GET", f"{PREFIX}/jobs/{job_id}/evaluation", _same)


def record_evaluation(job_id: int, split: str | None) -> Call[Mapping[str, Any]]:
    """Have the server write the figures of a job that is over into its database."""
    return Call("PUT", f"{PREFIX}/jobs/{job_id}/evaluation", _same, body=_said(split=split), slow=True)


def submit(body: Mapping[str, Any]) -> Call[JobRow]:
    """Submit a job; safe to send again, since its key is its own."""
    key = {"Idempotency-Key": uuid.uuid4().hex}
    return Call("POST", f"{PREFIX}/jobs", shapes.job_of, body=dict(body), headers=key)


def estimate(body: Mapping[str, Any]) -> Call[Mapping[str, Any]]:
    """What a submission would be, without making a job."""
    return Call("POST", f"{PREFIX}/jobs", _same, {"dry_run": "true"}, body=dict(body))


def pause(job_id: int) -> Call[JobRow]:
    """Pause a job."""
    return Call("POST", f"{PREFIX}/jobs/{job_id}/pause", shapes.job_of, safe=False)


def resume(job_id: int, max_failures: str | int | None) -> Call[JobRow]:
    """Let a paused job go on, or the rest of one that failed."""
    body = _said(max_failures=max_failures) or None
    return Call("POST", f"{PREFIX}/jobs/{job_id}/resume", shapes.job_of, body=body, safe=False)


def cancel(job_id: int, *, keep_best: bool) -> Call[JobRow]:
    """Cancel a job."""
    body = {"keep_best": True} if keep_best else None
    return Call("POST", f"{PREFIX}/jobs/{job_id}/cancel", shapes.job_of, body=body, safe=False)


def retry(job_id: int, codes: Sequence[str], max_failures: str | int | None) -> Call[JobRow]:
    """Run again what failed, and what was never run."""
    body = _said(codes=list(codes) or None, max_failures=max_failures) or None
    return Call("POST", f"{PREFIX}/jobs/{job_id}/retry", shapes.job_of, body=body, safe=False)


def set_priority(job_id: int, priority: int) -> Call[JobRow]:
    """Change a job's priority."""
    return Call("PATCH", f"{PREFIX}/jobs/{job_id}", shapes.job_of, body={"priority": priority})


def remove(job_id: int) -> Call[None]:
    """Remove a finished job with its rows."""
    return Call("DELETE", f"{PREFIX}/jobs/{job_id}", _nothing, safe=False, slow=True)


def events(job_id: int, headers: Mapping[str, str]) -> Call[None]:
    """The stream of a job's events; who follows it has a patience of its own."""
    return Call("GET", f"{PREFIX}/jobs/{job_id}/events", _nothing, headers=headers, waits=False)


# Results


def results(job_id: int, chosen: Filter | None, form: Form, order: Order = "item") -> Call[None]:
    """All matching results as a stream in one of the forms."""
    return _results(f"/jobs/{job_id}/results.{form}", chosen, order)


def across(model: str | None, chosen: Filter, order: Order) -> Call[None]:
    """All matching results of all jobs, of a model or with a label, as a stream of JSON lines."""
    return _results("/results.jsonl", chosen, order, **_said(model=model))


def _results(path: str, chosen: Filter | None, order: Order, **more: str) -> Call[None]:
    query = filter_query(chosen or Filter()) | ({"order": order} if order != "item" else {}) | more
    return Call("GET", PREFIX + path, _nothing, query, slow=True)


def form_of(path: Path) -> Form:
    """The form that a file's ending asks for. Raises ValueError for any other ending."""
    forms: Mapping[str, Form] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
    form = forms.get(path.suffix.lower())
    if form is None:
        raise ValueError(f"Expected a file ending in .csv, .jsonl or .parquet, got {path.name!r}.")
    return form


def filter_query(chosen: Filter) -> dict[str, Any]:
    """A filter as query parameters."""
    found = {name: getattr(chosen, name) for name in Filter.__slots__}
    return {name: _word(value) for name, value in found.items() if value is not None}


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def original(job_id: int, idx: int) -> Call[None]:
    """The file of an item, as a stream."""
    return Call("GET", f"{PREFIX}/jobs/{job_id}/items/{idx}/original", _nothing)


def label(job_id: int, idx: int, text: str) -> Call[Mapping[str, Any]]:
    """A person's label for an item."""
    return Call("PUT", f"{PREFIX}/jobs/{job_id}/items/{idx}/label", _same, body={"label": text})


def classify(name: str, model: str | None, top_k: int, wait_s: int) -> Call[ResultRow | JobRow]:
    """One picture, sent as the body; a result where it came in time, else the job."""
    query = _said(name=name, model=model, top_k=top_k)
    headers = {"Prefer": f"wait={wait_s}", "Content-Type": "application/octet-stream"}
    return Call("POST", f"{PREFIX}/classify", _quick, query, headers=headers, safe=False, slow=True)


def _quick(answer: Mapping[str, Any]) -> ResultRow | JobRow:
    return shapes.result_of(answer) if "idx" in answer else shapes.job_of(answer)


# Uploads


def open_upload() -> Call[str]:
    """Begin an upload of many files; answers with its id."""
    return Call("POST", f"{PREFIX}/uploads", lambda answer: str(answer["id"]), body={})


def put_file(upload_id: str, name: bytes) -> Call[Any]:
    """One file of an upload, sent as the body; a name may have folders."""
    path = f"{PREFIX}/uploads/{_named(upload_id)}/files/{quote(name, safe='/')}"
    return Call("PUT", path, _same, headers={"Content-Type": "application/octet-stream"}, slow=True)


def remove_upload(upload_id: str) -> Call[None]:
    """Forget an upload."""
    return Call("DELETE", f"{PREFIX}/uploads/{_named(upload_id)}", _nothing, safe=False)


# Runs


def runs(cursor: str | None, limit: int, **chosen: Any) -> Call[tuple[list[RunRow], str | None]]:
    """A page of runs, the newest first."""
    return Call("GET", f"{PREFIX}/runs", _each(shapes.run_of), _said(cursor=cursor, limit=limit, **chosen))


def run(name: str | int) -> Call[RunRow]:
    """One run: by number, name or model."""
    return Call("GET", f"{PREFIX}/runs/{_named(name)}", shapes.run_of)


def epochs(run_id: int, cursor: str | None, limit: int) -> Call[tuple[list[EpochRow], str | None]]:
    """A page of a run's history."""
    return Call("GET", f"{PREFIX}/runs/{run_id}/epochs", _each(shapes.epoch_of), _said(cursor=cursor, limit=limit))


def findings(run_id: int, cursor: str | None, limit: int) -> Call[tuple[list[FindingRow], str | None]]:
    """A page of what was found odd in the pictures of a run."""
    return Call("GET", f"{PREFIX}/runs/{run_id}/findings", _each(shapes.finding_of), _said(cursor=cursor, limit=limit))


def compare(one: int, other: int) -> Call[Comparison]:
    """Two runs beside each other."""
    return Call("GET", f"{PREFIX}/runs/compare", shapes.comparison_of, {"a": one, "b": other}, slow=True)


# Models


def models(cursor: str | None, limit: int) -> Call[tuple[list[ModelFacts], str | None]]:
    """A page of model versions."""
    return Call("GET", f"{PREFIX}/models", _each(ModelFacts.from_record), _said(cursor=cursor, limit=limit))


def model(reference: str) -> Call[ModelFacts]:
    """One version, by name, NAME@VERSION or NAME@ALIAS; with its labels."""
    return Call("GET", f"{PREFIX}/models/{_version(reference)}", ModelFacts.from_record)


def _version(reference: str) -> str:
    """The path of a version: NAME/SELECTOR."""
    name, _, selector = reference.partition("@")
    return f"{_named(name)}/{_named(selector or 'latest')}"


def alias(name: str, version: int, word: str) -> Call[ModelFacts]:
    """Point an alias at a version."""
    path = f"{PREFIX}/models/{_named(name)}/aliases/{_named(word)}"
    return Call("PUT", path, ModelFacts.from_record, body={"version": version})


def remove_model(reference: str, *, force: bool) -> Call[None]:
    """Remove a version."""
    query = {"force": "true"} if force else {}
    return Call("DELETE", f"{PREFIX}/models/{_version(reference)}", _nothing, query, safe=False)


def export_model(reference: str) -> Call[None]:
    """A version as a .zip, streamed."""
    return Call("GET", f"{PREFIX}/models/{_version(reference)}/export", _nothing, slow=True)


def import_model(file: str, **chosen: Any) -> Call[Mapping[str, Any]]:
    """A model's file, sent as the body; answers with its record and with notes."""
    query = _said(file=file, **chosen)
    headers = {"Content-Type": "application/octet-stream"}
    return Call("POST", f"{PREFIX}/models", _same, query, headers=headers, safe=False, slow=True)


def pull_model(preset: str, name: str | None) -> Call[Mapping[str, Any]]:
    """Have the server fetch a pretrained classifier; answers with its record and with notes."""
    return Call("POST", f"{PREFIX}/presets/pull", _same, body=_said(preset=preset, name=name), safe=False, slow=True)


# The server itself


def workers() -> Call[list[Mapping[str, Any]]]:
    """The workers that signed in, as records."""
    return Call("GET", f"{PREFIX}/workers", lambda answer: list(answer["items"]))


def sql(query: str, timeout_s: float) -> Call[None]:
    """A query, answered as lines of JSON: the columns, then each row as an array."""
    body = {"query": query, "timeout_s": timeout_s}
    return Call("POST", f"{PREFIX}/sql", _nothing, body=body, safe=False, slow=True)


def whoami() -> Call[Mapping[str, Any]]:
    """Whose token this is, and what it may do."""
    return Call("GET", f"{PREFIX}/whoami", _same)


def ready() -> Call[Mapping[str, Any]]:
    """Whether the server is ready, part by part; 503 where it is not."""
    return Call("GET", "/readyz", _same, {"verbose": ""}, safe=False)


def tokens(cursor: str | None, limit: int) -> Call[tuple[list[Mapping[str, Any]], str | None]]:
    """A page of the tokens, without their secrets, the oldest first."""
    return Call("GET", f"{PREFIX}/tokens", _each(_same), _said(cursor=cursor, limit=limit))


def make_token(body: Mapping[str, Any]) -> Call[Mapping[str, Any]]:
    """Make a token; its secret is in this answer and nowhere else."""
    return Call("POST", f"{PREFIX}/tokens", _same, body=dict(body), safe=False)


def revoke_token(token_id: str) -> Call[None]:
    """Revoke a token."""
    return Call("DELETE", f"{PREFIX}/tokens/{_named(token_id)}", _nothing, safe=False)
