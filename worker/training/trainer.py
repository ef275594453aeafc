"""The trainer process: `python -P -m worker.training.trainer`, the request on standard input, TensorFlow inside.

It reads pictures, trains, and makes a model version in a staging folder. It knows neither database nor queue: what it
has to say goes to its station (worker.training.station) as messages.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.conversion import read_version
from models.errors import InvalidModel, ModelError
from models.manifest import ModelVersion
from models.training import checkpoints
from worker.room import NoRoom, lacking
from worker.training.preparing import Prepared, forget_features, open_features, prepare
from worker.training.request import Request, read_items
from worker.training.sizing import choose_preprocessing
from worker.training.telling import Teller, message_of

if TYPE_CHECKING:
    from worker.training.schooling import School

log = logging.getLogger(__name__)


def main() -> None:
    """One run, or the rest of one. A ModelError is the station's to tell; anything else ends the process."""
    logging.basicConfig(level="INFO", stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    teller = Teller()
    request = Request.from_json(teller.listen())
    # TensorFlow takes seconds to arrive; most of that time the pictures are being read anyway.
    arriving = threading.Thread(target=importlib.import_module, args=("worker.training.schooling",), daemon=True)
    arriving.start()
    try:
        teller.say("answer", **_Attempt(request, teller, arriving).run())
    except ModelError as error:
        teller.say("error", **message_of(error))
    except OSError as error:
        what = lacking(error)
        if what is None:
            raise
        teller.say("error", **message_of(NoRoom(what)))
    except ImportError as error:
        missing = ModelError(f"Training needs the extra cpu or gpu: pip install 'pixmill[cpu]' ({error}).")
        teller.say("error", **message_of(missing))


class _Attempt:
    """One attempt at a run."""

    def __init__(self, request: Request, teller: Teller, arriving: threading.Thread) -> None:
        self._request = request
        self._teller = teller
        self._arriving = arriving
        self._base: ModelVersion | None = read_version(Path(request.base)) if request.base else None

    def run(self) -> dict[str, Any]:
        """Prepare, train, finish; answers how it ended."""
        request = self._request
        items = list(read_items(Path(request.folder) / "items.jsonl"))
        given = self._base.manifest.preprocessing if self._base is not None else None
        preprocessing = choose_preprocessing(request, items, given)
        engine = open_features(request, self._base, preprocessing)
        try:
            prepared = prepare(request, items, preprocessing, engine, self._teller)
            self._teller.stage("starting")
            self._arriving.join()
            school = self._school(prepared)
            if engine is not None and not school.trusts(engine):
                prepare(request, items, preprocessing, None, self._teller)  # pixels, for Keras to take features from
                school = self._school(forget_features(prepared, Path(request.folder)))
                school.add_crops(items, None)
            else:
                school.add_crops(items, engine)
        finally:
            if engine is not None:
                engine.close()
        return self._train(school)

    def _school(self, prepared: Prepared) -> School:
        from worker.training.schooling import School  # Keras

        return School(self._request, self._base, prepared, self._teller, self._resume())

    def _train(self, school: School) -> dict[str, Any]:
        outcome = school.train()
        answer = {"ended": outcome.ended, "best_epoch": outcome.best_epoch, "best_value": outcome.best_value}
        if outcome.ended == "paused" or outcome.best_epoch is None:
            return answer
        self._teller.stage("finishing")
        return {**answer, "version": str(school.finish(outcome))}

    def _resume(self) -> checkpoints.Checkpoint | None:
        """Where to go on; a checkpoint that cannot be read means beginning anew."""
        if not self._request.checkpoint:
            return None
        path = Path(self._request.checkpoint)
        try:
            found = checkpoints.load(path)
            return found if Path(self._request.folder) in path.parents else _reopened(found)
        except InvalidModel as error:
            log.warning("beginning anew: %s", error)
            self._teller.say("anew", reason=str(error))
            return None


def _reopened(checkpoint: checkpoints.Checkpoint) -> checkpoints.Checkpoint:
    """The last checkpoint of a finished run, to go on with for more epochs."""
    from models.training.loop import reopen  # Keras

    return reopen(checkpoint)


if __name__ == "__main__":
    main()
