"""What a worker does about items that may end it, for one job: it notes what it has in hand, and examines suspects."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from models.manifest import Preprocessing
from worker.failures import DECODING_ERRORS
from worker.inhand import Holding, InHand
from worker.reading import Location
from worker.suspects.examiner import Examiner, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Custody:
    """The notes and the examiner of one job's run.

    `excuse` is told the token of a lease whose last attempt an image has cost, once for each image. `halted`: the
    worker is to stop.
    """

    hand: InHand
    job_id: int
    preprocessing: Preprocessing
    examiner: Examiner
    excuse: Callable[[str], None]
    halted: Callable[[], bool]

    def holding(self, idx: int) -> Holding:
        """Use it around the reading, or the decoding, of an item."""
        return Holding(self.hand, self.job_id, idx, DECODING_ERRORS)

    def examine(self, owner: str, idx: int, location: Location) -> Verdict | None:
        """Prepare a suspect alone; None where the worker is to stop. Raises ExaminerBroken, OSError, StoreError."""
        verdict = self.examiner.examine(location, self.preprocessing, self.halted)
        if verdict is None:
            return None
        if verdict.guilty:  # it stays a suspect, for when somebody runs it again
            log.warning("item %d of job %d is set aside: %s", idx, self.job_id, verdict.message)
            if self.hand.convict(self.job_id, idx):
                self.excuse(owner)
        else:
            self.hand.clear(self.job_id, idx)
        return verdict
