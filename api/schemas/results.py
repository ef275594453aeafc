"""Results, items and corrections as they go over HTTP, and what listings of them can be asked for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.jobs import Asked, ClassOut, Flag, Time
from api.schemas.pages import DEFAULT_LIMIT, MOST, Cursor, Limit
from api.schemas.text import Input, Output, Plain, Text64, Text256
from store.item_query import ItemFilter
from store.results import Filter
from store.way import Order

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=1024), Plain]
Label = Annotated[str, Field(min_length=1, max_length=256), Plain]
OrderAsked = Annotated[
    Order, Field(description="By number; by score, the least or most sure first; the surest mistakes; the newest.")
]


class Chosen(Asked):
    """Which results; every given condition must hold."""

    label: Annotated[Text256, Field(description="The predicted label.")] | None = None
    status: Literal["ok", "failed"] | None = None
    error_code: Annotated[Text64, Field(description="Why it failed; docs/failures.md lists the codes.")] | None = None
    min_score: Score | None = None
    max_score: Score | None = None
    wrong: (
        Annotated[Flag, Field(description="Only where the true label is known and another; `false`: the same.")] | None
    ) = None
    true_label: Annotated[Text256, Field(description="The label that folder or manifest gave.")] | None = None
    path_prefix: Annotated[Name, Field(description="How `file_name` begins.")] | None = None
    glob: (
        Annotated[Name, Field(description="What all of `file_name` is like: `*` anything, `?` one character.")] | None
    ) = None
    corrected: Annotated[Flag, Field(description="Only items that a person labelled; `false`: others.")] | None = None
    correction: Annotated[Text256, Field(description="The label that a person gave last.")] | None = None

    def filter(self) -> Filter:
        """As the store has it."""
        return Filter(**{name: getattr(self, name) for name in Chosen.model_fields})


class ExportAsked(Chosen):
    """Which results, all of them, in which order."""

    order: OrderAsked = "item"


class ResultsAsked(ExportAsked):
    """Which results, in which order, from where on."""

    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | None = None


class OfModel(Asked):
    """Whose results."""

    model: Annotated[Text256, Field(description="`birds@3`, or `birds` for any version.")] | None = None


class AcrossAsked(ResultsAsked, OfModel):
    """Results of several jobs: of a model, or with a label."""


class AcrossExportAsked(ExportAsked, OfModel):
    """All results of several jobs: of a model, or with a label."""


class FacetsAsked(Chosen):
    """Counts of which results."""

    limit: Annotated[Limit, Field(description="How many labels at the most, the most frequent first.")] = DEFAULT_LIMIT


class LabelsAsked(Asked):
    """A page of what was said of an item."""

    limit: Limit = MOST
    cursor: Cursor | None = None


class ItemsChosen(Asked):
    """Which items; every given condition must hold."""

    path_prefix: Annotated[Name, Field(description="How `file_name` begins.")] | None = None
    true_label: Annotated[Text256, Field(description="The label that folder or manifest gave.")] | None = None
    pending: Annotated[Flag, Field(description="Only items without a result.")] = False

    def filter(self) -> ItemFilter:
        """As the store has it."""
        return ItemFilter(self.path_prefix, self.true_label, self.pending)


class ItemsAsked(ItemsChosen):
    """Which items, from where on."""

    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | None = None


class Guess(Output):
    """One of the best labels."""

    label: str
    score: float | None


class Result(Output):
    """What became of an item: label and score, or why not."""

    job_id: int
    idx: int
    path: str
    file_name: str
    member: str | None
    status: Literal["ok", "failed"]
    label: str | None
    score: float | None
    topk: list[Guess]
    true_label: str | None
    model: str | None
    error_code: str | None
    error: str | None
    width: int | None
    height: int | None
    content_hash: str | None
    reused: bool
    agrees: bool | None
    correction: str | None
    created_at: Time
    id: str | None
    extra: dict[str, str]


class Results(Output):
    """Some results, and where to go on; a page may be short, even empty, while `next` is there."""

    items: list[Result]
    next: str | None


class CodeOut(Output):
    """How many images failed so."""

    error_code: str
    images: int


class StatusCounts(Output):
    """How many are classified, how many failed."""

    ok: int
    failed: int


class AgreementCounts(Output):
    """Of the classified: predicted as labelled, otherwise, or not labelled."""

    right: int
    wrong: int
    unknown: int


class FacetsOut(Output):
    """Counts under the filter. Where `exact` is false, only the first `seen` rows were looked at."""

    status: StatusCounts
    labels: list[ClassOut]
    error_codes: list[CodeOut]
    agreement: AgreementCounts
    scores: Annotated[list[int], Field(min_length=20, max_length=20, description="Each of 0.05: the last has 1 in it.")]
    seen: int
    exact: bool


class ItemOut(Output):
    """An item as it was accepted, and what became of it so far."""

    job_id: int
    idx: int
    path: str
    file_name: str
    member: str | None
    size: int | None
    modified_at: Time | None
    true_label: str | None
    split: str | None
    status: Literal["pending", "ok", "failed"]
    label: str | None
    score: float | None
    error_code: str | None
    correction: str | None
    id: str | None
    extra: dict[str, str]


class ItemDetailOut(ItemOut):
    """An item with its whole result."""

    result: Result | None


class ItemPage(Output):
    """Some items, and where to go on."""

    items: list[ItemOut]
    next: str | None


class NewLabel(Input):
    """What a person says an item is."""

    label: Label


class CorrectionOut(Output):
    """What a person said of an item; `label` is null where they withdrew what was said before."""

    job_id: int
    idx: int
    label: str | None
    author: str
    created_at: Time


class CorrectionList(Output):
    """A page of what was said of an item, the oldest first; the last one of all counts."""

    items: list[CorrectionOut]
    next: str | None
