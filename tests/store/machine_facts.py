"""What the model of the store keeps of a job, a shard and a lease."""

from __future__ import annotations

from dataclasses import dataclass, field

from store.states import JobState

OVER = {JobState.CANCELLING, JobState.CANCELLED, JobState.FAILED}
Written = tuple[str, str | None, str]  # of a row: its status, its error code, the token that wrote it


@dataclass(slots=True)
class Shard:
    """A range of items."""

    lo: int
    hi: int
    state: str = "ready"
    attempt: int = 0
    max_attempts: int = 5
    token: str | None = None
    worker: str | None = None
    done_token: str | None = None
    is_given_up: bool = False  # whatever its time says

    def facts(self) -> tuple[object, ...]:
        """What the database must say of it too."""
        return self.lo, self.hi, self.state, self.attempt, self.max_attempts, self.token, self.done_token

    def let_go(self, state: str) -> None:
        """Nobody owns it any more."""
        self.state, self.token, self.is_given_up = state, None, False


@dataclass(slots=True)
class Job:
    """A job with all its rows."""

    id: int
    count: int
    shards: list[Shard]
    training: bool = False
    state: JobState = JobState.ACCEPTED
    rows: dict[int, Written] = field(default_factory=dict)
    # of a training
    checkpoint: tuple[int, int] | None = None
    keep_best: bool = False
    has_model: bool = False
    limit: int | None = None  # images that may fail; None: any number

    @property
    def is_leased(self) -> bool:
        """Whether a worker holds one of its shards."""
        return any(shard.state == "leased" for shard in self.shards)

    @property
    def is_open(self) -> bool:
        """Whether anything is left to do."""
        return any(shard.state in ("ready", "leased") for shard in self.shards)

    @property
    def without_best(self) -> bool:
        """Whether it shall end early, and has nothing to keep."""
        return self.keep_best and self.checkpoint is None and not self.has_model

    @property
    def over(self) -> bool:
        """Whether a shard that comes back is not handed out again."""
        return self.state in OVER or self.without_best

    @property
    def is_hopeless(self) -> bool:
        """Whether more has failed than may."""
        failed = sum(row[0] == "failed" for row in self.rows.values())
        return self.limit is not None and failed > self.limit

    def inside(self, shard: Shard) -> list[int]:
        """The items of a shard that have a row."""
        return [idx for idx in self.rows if shard.lo <= idx < shard.hi]

    def taken_up(self) -> JobState:
        """The state of a job that may go on."""
        return JobState.RUNNING if self.is_leased else JobState.ACCEPTED


@dataclass(slots=True)
class Claimed:
    """A lease as its worker knows it; it may use it long after it is lost."""

    token: str
    job_id: int
    is_training: bool
