"""Jobs as they go over HTTP, and what a listing of them can be asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from api.schemas.pages import DEFAULT_LIMIT, Cursor, Limit
from api.schemas.text import Output, Text64, Text256
from store.states import JobKind, JobState


def _moment(value: object) -> object:
    """In a URL a moment is RFC 3339 and nothing else that could be taken for one."""
    if isinstance(value, str) and ("T" not in value.upper() or len(value) > 40):
        raise ValueError("expected a moment like 2026-11-22T01:30:00Z")
    return value


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("expected true or false")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]  # as store.moments writes it


class Asked(BaseModel):
    """What stands behind the question mark: a name that is not known is refused, not passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class JobsAsked(Asked):
    """Which jobs; every given condition must hold."""

    state: Annotated[list[JobState], Field(max_length=len(JobState), description="One of these; may be repeated.")] = []
    kind: JobKind | None = None
    model: Annotated[Text256, Field(description="`birds@3`, or `birds` for any version.")] | None = None
    owner: Annotated[Text64, Field(description="For administrators; others see their own jobs.")] | None = None
    since: Annotated[Moment, Field(description="Made at this moment or later.")] | None = None
    until: Annotated[Moment, Field(description="Made before this moment.")] | None = None
    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | None = None


class Job(Output):
    """A job with its totals: found = classified + failed + pending."""

    id: int
    kind: JobKind
    state: JobState
    owner: str
    description: str
    root: str
    confined: bool
    model: str | None
    top_k: int
    reuse: bool
    found: int
    classified: int
    failed: int
    reused: int
    pending: int
    ignored: dict[str, int]
    priority: int
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    error: str | None
    done_before: int = Field(description="Results of before the last retry; started_at and the speed are of the rest.")
    max_failures: str | None = Field(description="How many images may fail before it stops: 500, 5%, none.")
    trouble: str | None = Field(description="What it waits for where nothing goes on: space on a disk.")


class JobDetailOut(Job):
    """A job with its pace; `run` is that of a training."""

    images_per_s: float | None
    eta_s: float | None
    run: int | None


class JobPage(Output):
    """Some jobs, and where to go on."""

    items: list[Job]
    next: str | None


class ClassOut(Output):
    """How many images got a label."""

    label: str
    images: int


class FailureOut(Output):
    """How many images failed so; an example of what was said."""

    error_code: str
    images: int
    example: str


class AgreementOut(Output):
    """How many of the labelled images were predicted right."""

    right: int
    labelled: int
    share: float | None


class SummaryOut(Output):
    """How a job went."""

    job: Job
    classes: list[ClassOut]
    failures: list[FailureOut]
    agreement: AgreementOut
