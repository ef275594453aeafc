"""What may be asked of a submission and of jobs in numbers: bodies of POST /jobs, of actions, and their answers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api.schemas.text import CONTRADICTION, MAX_ID, Digits, Id, Input, Output, Plain, Text4k, Text64, Text256
from models.recipes import Mode
from store.failure_limits import EXPECTED, PATTERN, Limit
from store.jobs import What
from worker.failures import ITEM_CODES, unknown_codes

MAX_PATHS, MAX_GLOBS, MAX_ACTIONS, MAX_KEYS = 10_000, 100, 1000, 100

Path = Annotated[str, Field(min_length=1, max_length=4096), Plain]
UploadId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Globs = Annotated[list[Annotated[str, Field(min_length=1, max_length=1024), Plain]], Field(max_length=MAX_GLOBS)]
Priority = Annotated[int, Field(ge=0, le=9, description="0 goes first, 9 last."), Digits]
Epochs = Annotated[int, Field(ge=1, le=10_000), Digits]
Labels = Literal["none", "folder"]
LIMIT = "It stops once more images failed: so many (500), or such a share (5%); none: never."


def _limit(value: object) -> str:
    """A number, or text as the command line takes it."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value):
        value = str(int(value))
    if not isinstance(value, str) or re.fullmatch(PATTERN, value) is None:
        raise ValueError(EXPECTED)
    return Limit.of(value).text


def _code(value: str) -> str:
    if said := unknown_codes([value]):
        raise ValueError(said)
    return value


MaxFailures = Annotated[
    str,
    BeforeValidator(_limit),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 10**15 - 1}, {"type": "string", "pattern": PATTERN}]}
    ),
]
Code = Annotated[
    Text64, AfterValidator(_code), WithJsonSchema({"type": "string", "enum": [code.code for code in ITEM_CODES]})
]
Codes = Annotated[list[Code], Field(max_length=100)]


def _only_such_keys(described: dict[str, Any]) -> None:
    """pydantic describes the keys of a mapping as a choice; here others are refused."""
    ((pattern, values),) = described.pop("patternProperties").items()
    described["additionalProperties"] = values
    described["propertyNames"]["pattern"] = pattern


Whole = Annotated[int, Field(ge=-MAX_ID, le=MAX_ID)]
Scalar = bool | Whole | Annotated[float, Field(allow_inf_nan=False)] | Text256 | None
Values = Annotated[dict[Text64, Scalar], Field(max_length=MAX_KEYS, json_schema_extra=_only_such_keys)]
Recipe = Annotated[dict[Text64, Values | Scalar], Field(max_length=MAX_KEYS, json_schema_extra=_only_such_keys)]


class Folder(Input):
    """A folder on the server, with its subfolders."""

    folder: Path


class Paths(Input):
    """Files, folders, archives and globs on the server, in this order."""

    paths: Annotated[list[Path], Field(min_length=1, max_length=MAX_PATHS)]


class Files(Input):
    """Exactly these files on the server, in this order: each becomes a row, whether it is there or not."""

    files: Annotated[list[Path], Field(min_length=1, max_length=MAX_PATHS)]


class Manifest(Input):
    """A table of files on the server: .csv, .tsv, .jsonl or .parquet."""

    manifest: Path


class Archive(Input):
    """A .zip or .tar on the server, read in place."""

    archive: Path


class Upload(Input):
    """What was uploaded before; it takes no more files from here on."""

    upload: UploadId


KINDS_OF_SOURCE = ("folder", "paths", "files", "manifest", "archive", "upload")


def _kind(value: Any) -> str | None:
    """Which source it is: by the one key that says so."""
    if isinstance(value, dict):
        return next((kind for kind in KINDS_OF_SOURCE if kind in value), None)
    return next((kind for kind in KINDS_OF_SOURCE if hasattr(value, kind)), None)


Source = Annotated[
    Annotated[Folder, Tag("folder")]
    | Annotated[Paths, Tag("paths")]
    | Annotated[Files, Tag("files")]
    | Annotated[Manifest, Tag("manifest")]
    | Annotated[Archive, Tag("archive")]
    | Annotated[Upload, Tag("upload")],
    Discriminator(
        _kind,
        custom_error_type="source",
        custom_error_message="expected an object with one of folder, paths, files, manifest, archive, upload",
    ),
]


class _Submission(Input):
    source: Source
    include: Globs = Field([])
    exclude: Globs = Field([])
    priority: Priority = 5


class ClassifyJob(_Submission):
    """Classify every image of a source."""

    kind: Literal["classify"]
    model: Text256 | None = Field(None, description="NAME, NAME@VERSION or NAME@ALIAS; the only model where left away.")
    labels: Labels = Field("none", description="folder: true labels from the folders' names.")
    top_k: Annotated[int, Field(ge=1, le=20), Digits] = 5
    reuse: bool = Field(True, description="Take known answers for identical files.")
    max_failures: MaxFailures | None = Field(
        None, description=f"{LIMIT} Without it, where the first images all fail for one common cause."
    )


class EvaluateJob(_Submission):
    """Classify labelled images, to measure a model by them."""

    kind: Literal["evaluate"]
    model: Text256 | None = None
    split: Annotated[str, Field(min_length=1, max_length=16), Plain] | None = None
    reuse: bool = True


class FinetuneJob(Input):
    """Train a model on labelled images; or, with `continue_run`, go on with a run that is over."""

    kind: Literal["finetune"]
    source: Source | None = Field(None, description="The labelled images; none with continue_run.")
    include: Globs = Field([])
    exclude: Globs = Field([])
    priority: Priority = 5
    name: Text64 | None = Field(None, description="What the model is called; it becomes its next version.")
    mode: Mode | None = None
    base: Text256 | None = None
    preset: Text256 | None = None
    epochs: Epochs | None = None
    recipe: Recipe | None = Field(None, description="A recipe, as GET /runs/{run}/recipe gives it.")
    set: Recipe = Field({}, description="Keys of a recipe put over it: optimizer.learning_rate or nested.")
    allow_leaks: bool = False
    continue_run: Id | None = None
    add_epochs: Epochs | None = Field(None, description="With continue_run: so many more.")


Job = Annotated[ClassifyJob | EvaluateJob | FinetuneJob, Field(discriminator="kind")]


class Cancel(Input):
    """How to cancel. `keep_best`, of a training: make a model of the best epoch so far."""

    keep_best: bool = False


class Resume(Input):
    """How to go on."""

    max_failures: MaxFailures | None = Field(None, description=f"{LIMIT} Without it, one that stopped has none.")


class Retry(Input):
    """What to run again: what failed with one of these codes and what was never run; without codes, all that failed."""

    codes: Codes = Field([])
    what: What = Field("both", description="left: only what was never run; what failed stays as it is.")
    max_failures: MaxFailures | None = Field(None, description=f"{LIMIT} Without it, what it was.")

    @model_validator(mode="after")
    def _check_what(self) -> Self:
        if self.codes and self.what == "left":
            raise PydanticCustomError(CONTRADICTION, "expected codes of what failed, or what: left; got both")
        return self


class Quick(BaseModel):
    """The query of POST /classify."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=255, description="What the row calls the image."), Plain] = (
        "image"
    )
    model: Annotated[str, Field(max_length=256, description="NAME, NAME@VERSION or NAME@ALIAS."), Plain] | None = None
    top_k: Annotated[int, Field(ge=1, le=20), Digits] = 5


class Change(Input):
    """What of a job can be changed."""

    priority: Priority


Action = Literal["pause", "resume", "cancel", "retry", "priority", "delete"]


class Actions(Retry):
    """One action on many jobs. `codes`, `what` and `max_failures` are of what runs again, `keep_best` of a cancel."""

    action: Action
    jobs: Annotated[list[Id], Field(min_length=1, max_length=MAX_ACTIONS)]
    keep_best: bool = False
    priority: Priority | None = Field(None, description="With the action priority: 0 goes first, 9 last.")

    @model_validator(mode="after")
    def _check_priority(self) -> Self:
        if (self.action == "priority") != (self.priority is not None):
            raise PydanticCustomError(CONTRADICTION, "expected a priority with the action priority, and with no other")
        return self


class Outcome(Output):
    """What became of one job: its state then (None once it is deleted), or the problem."""

    job: int
    ok: bool
    state: str | None
    problem: dict[str, Any] | None


class Outcomes(Output):
    """What became of each, in the order asked."""

    outcomes: list[Outcome]


class Bytes(Output):
    """Sizes of files, in bytes; None where none is known."""

    total: int
    smallest: int | None
    median: int | None
    largest: int | None


class Estimate(Output):
    """What a dry run found, without making a job."""

    items: int
    labelled: int
    formats: dict[str, int]
    bytes: Bytes
    ignored: dict[str, int]
    complete: bool = Field(description="False where it stopped looking before the end: then there are more items.")
    model: str | None
    images_per_s: float | None = Field(description="As measured in past jobs of this model; None where there are none.")
    seconds: float | None = Field(description="How long a job of so many items takes at that speed.")
    warnings: list[Text4k]
