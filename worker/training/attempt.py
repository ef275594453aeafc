"""One attempt at one run, from the station's side: the trainer's request, and its messages written down."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models import errors
from models.errors import InvalidRecipe, ModelError
from models.manifest import Manifest, ModelVersion
from models.recipes import check_recipe
from models.registry import Registry
from models.training.checkpoints import prune
from store.database import Database
from store.failpoints import reach
from store.insights import job as read_job
from store.rows import Lease, NewResult
from store.run_data import write_survey
from store.run_rows import EpochFacts, Finding, RunItem, RunRow, Survey, Wanted
from store.runs import add_epoch, begin, move_checkpoint, set_model, set_stage
from store.training_items import training_items
from worker.devices import Device
from worker.room import NoRoom, Patience
from worker.settings import Settings
from worker.submission import register_version
from worker.training.process import Message, TrainerProcess
from worker.training.request import Request, write_items

log = logging.getLogger(__name__)

WAIT_S = 0.2  # for the next message
PAUSE_S = 120.0  # what a trainer may take to write its checkpoint and leave
BEFORE_TRAINING = ("", "reading", "comparing", "starting", "features")  # what is done there is done again
LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "keras-cv", "openvino", "numpy", "pillow", "scikit-learn")

Wish = Callable[[], Wanted]


class TrainerDied(Exception):
    """The trainer ended without an answer; the message has its last words. `is_bug`: it was not killed."""

    def __init__(self, message: str, *, is_bug: bool) -> None:
        super().__init__(message)
        self.is_bug = is_bug


class Attempt:
    """One trainer, from its start to its end."""

    def __init__(
        self, settings: Settings, device: Device, database: Database, lease: Lease, run: RunRow, patience: Patience
    ) -> None:
        self._patience = patience
        self._settings = settings
        self._device = device
        self._database = database
        self._lease = lease
        self._run = run
        self._folder = settings.runs_folder / run.uid
        self._registry = Registry(settings.models_folder)
        self._stage = ""
        self._epoch: dict[str, Any] = {}  # what the last finished one said
        self._answer: Message | None = None

    def train(self, wish: Wish, sign: Callable[[], None]) -> bool:
        """Run the trainer to its end; True when there is a model, False where the run is to be given back.

        Raises LeaseLost, TrainerDied, NoRoom, ModelError (what the trainer says cannot be).
        """
        earlier = self._made_before()
        if earlier is not None:
            self._register(earlier, self._run.best_epoch, self._run.best_value)
            return True
        with self._registry.staging() as staging:
            request = self._request(staging)
            self._prepare_folder()
            self._begin()
            log.info("run %d of job %d: attempt %d", self._run.id, self._lease.job_id, self._lease.attempt)
            trainer = TrainerProcess(
                request.to_json(),
                self._settings.log_folder / f"trainer-{self._device.name}.log",
                on_gpu=self._device.kind == "gpu",
            )
            try:
                self._converse(trainer, wish, sign)
            finally:
                trainer.end()
            return self._conclude()

    def _converse(self, trainer: TrainerProcess, wish: Wish, sign: Callable[[], None]) -> None:
        """Write down what the trainer says and pass on what a person wants, until either ends it."""
        asked: float | None = None  # when the trainer was asked to end
        while self._answer is None:
            message = trainer.next(WAIT_S)
            wanted = wish()
            if wanted in ("lost", "cancel") or (wanted != "go" and self._may_be_killed(wanted, asked)):
                return
            if wanted != "go" and asked is None:
                trainer.tell({"wanted": wanted})
                asked = time.monotonic()
            if message is not None:
                sign()
                self._hear(message)
            elif trainer.is_over:
                raise TrainerDied(trainer.last_words(), is_bug=not trainer.was_killed)

    def _may_be_killed(self, wanted: Wanted, asked: float | None) -> bool:
        """Whether a trainer that is to end has nothing to save, or takes too long over it."""
        if self._stage in BEFORE_TRAINING and (wanted == "pause" or self._run.checkpoint is None):
            return True
        # A stop validates the epoch under way and makes a model of the best: that takes as long as it takes.
        return wanted == "pause" and asked is not None and time.monotonic() - asked > PAUSE_S

    def _hear(self, message: Message) -> None:
        """Take a message in; where the database is full, once it is not any more."""
        if message["kind"] == "no_room":  # the trainer waits for it
            self._patience.note(message["message"])
            return
        self._patience.through(lambda: self._take(dict(message)))
        if message["kind"] in ("checkpoint", "answer"):  # that is written
            self._patience.over()

    def _take(self, message: Message) -> None:
        """Write down what one message says."""
        kind = message.pop("kind")
        if kind in ("answer", "error"):
            self._answer = message
        elif kind == "stage":
            self._stage = message["stage"]
            self._show(message)
        elif kind == "progress":
            self._show(message)
        elif kind == "survey":
            write_survey(self._database, self._lease, self._survey(Path(message["path"])))
        elif kind == "epoch":
            self._epoch = message
            add_epoch(self._database, self._lease, EpochFacts(**message))
        elif kind == "checkpoint":
            reach("checkpoint.written")
            move_checkpoint(self._database, self._lease, message["path"], message["epoch"], message["step"])
            reach("checkpoint.after")
            prune(Path(message["path"]))
        elif kind == "anew":
            self._begin(anew=True)

    def _show(self, progress: Message) -> None:
        last = {key: self._epoch.get(key) for key in ("val_loss", "val_accuracy", "patience_left")}
        set_stage(self._database, self._lease, self._stage, {**progress, **last})

    def _conclude(self) -> bool:
        """What the trainer's last message means. Raises the ModelError that it tells of."""
        answer = self._answer
        if answer is None:
            return False
        if answer.get("error") == NoRoom.__name__:
            raise NoRoom(answer["message"])
        if "error" in answer:
            raise _error(answer)
        if "version" not in answer:
            return False
        folder = Path(answer["version"])
        draft = Manifest.load(folder / "manifest.json")
        self._show({})  # fenced: a zombie adds no version
        added = self._registry.add(folder, draft)
        reach("model.registered")
        self._register(added, answer["best_epoch"], answer["best_value"])
        return True

    def _register(self, added: ModelVersion, best_epoch: int | None, best_value: float | None) -> None:
        model_id = register_version(self._database, added)
        set_model(self._database, self._lease, model_id, best_epoch, best_value)

    def _made_before(self) -> ModelVersion | None:
        """The version that an attempt made which died before it could say so."""
        made = (known for known in self._registry.readable(self._run.name))
        return next((known for known in made if known.manifest.lineage.get("run") == self._run.uid), None)

    def _begin(self, *, anew: bool = False) -> None:
        begin(
            self._database,
            self._lease,
            device=self._device.title,
            libraries=dict(_libraries()),
            code_version=version("pixmill"),
            resume_epoch=0 if anew or not self._checkpoint() else (self._run.checkpoint_epoch or 0),
        )

    def _request(self, staging: Path) -> Request:
        run, settings = self._run, self._settings
        recipe = check_recipe(run.recipe)
        base = self._registry.get(recipe.base) if recipe.base is not None else None
        job = read_job(self._database, self._lease.job_id)
        labels = base.labels if base is not None and recipe.keep_head else tuple(run.options["labels"])
        return Request(
            name=run.name,
            recipe=recipe,
            labels=labels,
            folder=str(self._folder),
            attempt_folder=str(self._folder / "attempts" / self._lease.token),
            staging=str(staging),
            base=str(base.path.resolve()) if base is not None else "",
            checkpoint=self._checkpoint(),
            allow_leaks=bool(run.options.get("allow_leaks")),
            lineage=self._lineage(base),
            root=base64.b64encode(job.root).decode(),
            confined=job.confined,
            precision=settings.precision,
            max_pixels=settings.max_pixels,
            max_bytes=settings.max_file_mb << 20,
            cache_folder=str(settings.cache_folder),
            threads=settings.decode_threads or os.cpu_count() or 2,
            on_gpu=self._device.kind == "gpu",
            checkpoint_s=settings.checkpoint_s,
        )

    def _lineage(self, base: ModelVersion | None) -> dict[str, Any]:
        lineage: dict[str, Any] = {
            "kind": "run",
            "run": self._run.uid,
            "run_id": self._run.id,
            "recipe": self._run.recipe,
        }
        if base is not None:
            lineage |= {"base": base.reference, "base_digest": base.manifest.digest}
        return lineage

    def _checkpoint(self) -> str:
        """The checkpoint to go on from, if it can be reached from here.

        Raises InvalidRecipe where a run that was to be continued is out of reach: beginning anew is not what was asked.
        """
        path = self._run.checkpoint
        if path is not None and Path(path).is_dir():
            return path
        if path is not None and self._run.continued_from is not None and self._folder not in Path(path).parents:
            raise InvalidRecipe(
                f"The last checkpoint of run {self._run.continued_from} is not there any more ({path}); train anew "
                f"with its recipe: `pixmill runs recipe {self._run.continued_from}`."
            )
        return ""

    def _prepare_folder(self) -> None:
        """The run's folder with its list of items; attempts that nothing points to any more go."""
        attempts = self._folder / "attempts"
        attempts.mkdir(parents=True, exist_ok=True)
        kept = Path(self._checkpoint()).parent.name
        for old in attempts.iterdir():
            if old.name not in (kept, self._lease.token):
                shutil.rmtree(old, ignore_errors=True)
        listed = self._folder / "items.jsonl"
        if not listed.exists():
            write_items(listed, training_items(self._database, self._lease.job_id))

    def _survey(self, path: Path) -> Survey:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Survey(
            items=[
                RunItem(idx, split, bytes.fromhex(digest), group) for _, idx, split, digest, group in values["items"]
            ],
            findings=[Finding(**finding) for finding in values["findings"]],
            failed=[
                NewResult(idx, "failed", error_code=code, error=message)
                for _row, idx, code, message in values["failures"]
            ],
            census=values["census"],
            fingerprint=values["fingerprint"],
        )


def tidy(settings: Settings, run: RunRow) -> None:
    """Remove what a run that has ended does not need to go on: its caches can be made again."""
    for pattern in ("*.npy", ".*.tmp"):
        for cache in (settings.runs_folder / run.uid).glob(pattern):
            cache.unlink(missing_ok=True)


def _error(answer: Message) -> ModelError:
    """The error that a trainer told of."""
    kind = getattr(errors, str(answer["error"]), ModelError)
    if not (isinstance(kind, type) and issubclass(kind, ModelError)) or kind in (
        errors.ImageError,
        errors.UnknownModel,
    ):
        kind = ModelError
    return kind(answer["message"])


def _libraries() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
