"""Orders on this machine: what a person asked for, checked against files, models and data before anything is queued."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.context import choose_model, make_home, registry
from cli.desk import ClassifyOrder, EvaluateOrder, FinetuneOrder, Pictures, Submit
from cli.errors import CommandError
from cli.local import is_embedded, queues_for
from cli.output import err, interactive, say
from worker.settings import Settings

if TYPE_CHECKING:
    from models.manifest import ModelVersion
    from store.database import Database
    from worker.finetuning import Dataset, Training
    from worker.sources.entry import Source

OpenDatabase = Callable[[], "Database"]  # makes the tables where there are none


def check_classify(chosen: Settings, open_database: OpenDatabase, order: ClassifyOrder) -> Submit:
    """Read the source's first picture and find the model. Raises SourceError, UnknownModel, CommandError."""
    from worker.submission import Choices, Scan, submit_classify

    source = read(chosen, order.pictures)
    make_home(chosen)
    scan = Scan(source)
    version = find_model(chosen, order.model)
    choices = Choices(top_k=order.top_k, reuse=order.reuse, priority=order.priority, max_failures=order.max_failures)

    def submit() -> int:
        database = open_database()
        say_open(database, ("classify",))
        with counting(source) as each:
            job_id = submit_classify(database, scan, version, choices, each)
        ring(chosen, job_id)
        return job_id

    return submit


def check_evaluate(chosen: Settings, open_database: OpenDatabase, order: EvaluateOrder) -> Submit:
    """Read the labelled pictures and find the model. Raises SourceError, InvalidRecipe, UnknownModel, CommandError."""
    from worker.evaluation_jobs import submit_evaluation
    from worker.finetuning import check_dataset

    source = read(chosen, order.pictures)
    make_home(chosen)
    version = find_model(chosen, order.model)
    with counting(source) as each:
        dataset = check_dataset(source, each)

    def submit() -> int:
        database = open_database()
        say_open(database, ("classify",))
        job_id = submit_evaluation(
            database, dataset, version, split=order.split, reuse=order.reuse, priority=order.priority
        )
        ring(chosen, job_id)
        return job_id

    return submit


def check_finetune(chosen: Settings, open_database: OpenDatabase, order: FinetuneOrder) -> Submit:
    """Read the labelled pictures, find the base, and refuse or warn. Raises ModelError, SourceError, CommandError."""
    from models.references import check_name
    from worker.finetuning import Training, settled, submit_finetune

    check_name(order.name)
    before = order.continued_from
    source = _source(chosen, open_database, order)
    make_home(chosen)
    training = Training(
        order.name,
        order.recipe,
        allow_leaks=order.allow_leaks,
        priority=order.priority,
        continued_from=before.id if before is not None else None,
    )
    training = settled(training, lambda reference: find_model(chosen, reference))
    dataset = _examine(chosen, source, training)

    def submit() -> int:
        database = open_database()
        say_open(database, ("classify", "train"))
        job_id = submit_finetune(database, dataset, training, registry(chosen))
        ring(chosen, job_id, "train")
        return job_id

    return submit


def read(chosen: Settings, pictures: Pictures) -> Source:
    """The source that was named. Raises SourceError."""
    from worker.sources.opening import open_source

    return open_source(
        pictures.paths,
        include=pictures.include,
        exclude=pictures.exclude,
        labels=pictures.labels,
        cache_dir=chosen.cache_folder / "archives",
    )


def find_model(chosen: Settings, reference: str | None) -> ModelVersion:
    """The model to use; a preset that is not in the registry yet is fetched first."""
    from models.errors import UnknownModel
    from models.presets import PRESETS

    try:
        return choose_model(chosen, reference)
    except UnknownModel:
        if reference is None or reference not in PRESETS:
            raise
    from models.pulling import pull

    say(f"{reference} is not here yet: fetching about {PRESETS[reference].download_mb} MB, once.")
    return pull(reference, registry(chosen), progress=say)


@contextmanager
def counting(source: Source) -> Iterator[Callable[[int], None] | None]:
    """Show the growing count while a large folder is scanned."""
    if not interactive():
        yield None
        return
    with err.status(f"Looking through the {source.description}") as status:
        yield lambda n: status.update(f"Looking through the {source.description}: {n:,} found")


def say_open(database: Database, queues: Sequence[str]) -> None:
    """Workers take whatever is due on their queues: tell of jobs that were left open before."""
    from store.insights import list_jobs
    from store.states import CLAIMABLE

    for row in list_jobs(database, states=tuple(CLAIMABLE), limit=3):
        if not set(queues_for(row.kind)) <= set(queues):
            continue
        done = f" ({row.classified + row.failed:,} of {row.found:,})" if row.kind == "classify" else ""
        say(f"Job {row.id} is still open{done} and goes on as well; `pixmill jobs pause {row.id}` puts it aside.")


def ring(chosen: Settings, job_id: int, queue: str = "classify") -> None:
    """Tell workers elsewhere of a job; those that start with this command look for work by themselves."""
    if is_embedded(chosen):
        return
    from worker.dispatch import Dispatcher

    dispatcher = Dispatcher(chosen)
    dispatcher.ring(job_id, queue)
    dispatcher.close()


def _source(chosen: Settings, open_database: OpenDatabase, order: FinetuneOrder) -> Source:
    """The pictures of a training: those that were named, or those of the run that it goes on from."""
    if order.pictures is not None:
        return read(chosen, order.pictures)
    from worker.past import PastSource, past_job

    if order.continued_from is None:
        raise CommandError("Expected pictures, or a run to go on from.")
    return PastSource(open_database(), past_job(order.continued_from))


def _examine(chosen: Settings, source: Source, training: Training) -> Dataset:
    """Read the source to its end, and refuse or warn before anything is queued."""
    from models.datasets.counting import problems
    from worker.finetuning import UNLABELLED, check_dataset

    recipe = training.recipe
    with counting(source) as each:
        dataset = check_dataset(source, each)
    kept = registry(chosen).get(recipe.base).labels if recipe.base is not None and recipe.keep_head else None
    if source.ignored.get(UNLABELLED):
        say(f"{source.ignored[UNLABELLED]:,} pictures without a label are passed over.", "yellow")
    for warning in problems(dataset.counts, recipe, kept):
        say(warning, "yellow")
    return dataset
