"""The tables of DESIGN §4 as SQLAlchemy Core metadata.

Times are seconds since 1970 in UTC (double precision), from the database's own clock; the views show timestamps.
Large tables (items, results, memo) are keyed by what they are looked up with and only ever inserted into.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from store.access_tables import counters, deliveries, requests, tokens, uploads, webhooks
from store.columns import HAS_LABEL, IS_FAILED, IS_OK, IS_WRONG, Id, OfJob, Path, metadata, partial, states

__all__ = [
    "attempts",
    "corrections",
    "counters",
    "deliveries",
    "epochs",
    "evaluations",
    "events",
    "findings",
    "items",
    "jobs",
    "memo",
    "metadata",
    "models",
    "requests",
    "results",
    "run_items",
    "runs",
    "shards",
    "tallies",
    "tokens",
    "uploads",
    "webhooks",
    "workers",
]

models = Table(
    "models",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # what decides an answer; see Manifest.digest
    Column("classes", Integer, nullable=False),
    Column("labels", Text, nullable=False),  # JSON list, in output order
    Column("preprocessing", Text, nullable=False),  # JSON object
    Column("path", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_models_name_version", "name", "version"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(20), nullable=False),
    Column("owner", String(64), nullable=False, server_default=""),
    Column("priority", Integer, nullable=False, server_default="5"),  # 0 first … 9 last
    Column("model_id", Id, ForeignKey("models.id"), nullable=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("root", Text, nullable=False, server_default=""),  # items' paths are relative to it
    Column("root_raw", LargeBinary, nullable=True),  # its bytes, where they are not UTF-8
    Column("confined", Boolean, nullable=False, server_default="0"),  # links may not lead out of root
    Column("top_k", Integer, nullable=False, server_default="5"),
    Column("reuse", Boolean, nullable=False, server_default="1"),
    Column("options", Text, nullable=False, server_default="{}"),  # JSON object
    Column("n_items", BigInteger, nullable=False, server_default="0"),
    Column("ignored", Text, nullable=False, server_default="{}"),  # JSON: what the scan passed over, and why
    Column("served", BigInteger, nullable=False, server_default="0"),  # items handed out: the fair order of claims
    Column("claimed_at", Double, nullable=True),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double, nullable=True),
    Column("finished_at", Double, nullable=True),
    Column("error", Text, nullable=True),
    Column("max_failures", String(16), nullable=True),  # 500, 5%, none; NULL: see store.failure_limits
    Column("done_before", BigInteger, nullable=False, server_default="0"),  # results of before the last retry
    states("kind", "classify", "finetune"),
    states(
        "state",
        "scanning",
        "accepted",
        "running",
        "paused",
        "cancelling",
        "cancelled",
        "done",
        "done_with_errors",
        "failed",
    ),
    Index("ix_jobs_state", "state"),
    Index("ix_jobs_owner_id", "owner", "id"),
    sqlite_autoincrement=True,  # the id of a removed job is never given again: memo may still name it
)

items = Table(
    "items",
    metadata,
    Column("job_id", OfJob, ForeignKey("jobs.id"), primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("path", Path, nullable=False),
    Column("path_raw", LargeBinary, nullable=True),  # the name's bytes, where they are not UTF-8
    Column("size", BigInteger, nullable=True),
    Column("mtime_ns", BigInteger, nullable=True),
    Column("label", Text, nullable=True),  # the true label, where the folder or the manifest gives one
    Column("split", String(16), nullable=True),
    Column("external_id", Text, nullable=True),
    Column("extra", Text, nullable=True),  # JSON: a manifest's further columns
    Column("member", Text, nullable=True),  # inside an archive
    Column("offset", BigInteger, nullable=True),
    Index("ix_items_job_id_path_idx", "job_id", "path", "idx"),
    partial("ix_items_job_id_label_idx", "job_id", "label", "idx", where=HAS_LABEL),
    sqlite_with_rowid=False,
)

shards = Table(
    "shards",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("queue", String(16), nullable=False),
    Column("lo", BigInteger, nullable=False),
    Column("hi", BigInteger, nullable=False),  # exclusive
    Column("state", String(12), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("max_attempts", Integer, nullable=False, server_default="5"),
    Column("token", String(32), nullable=True),
    Column("worker_id", String(128), nullable=True),
    Column("lease_until", Double, nullable=True),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("done_token", String(32), nullable=True),
    Column("ok", BigInteger, nullable=False, server_default="0"),
    Column("failed", BigInteger, nullable=False, server_default="0"),
    Column("reused", BigInteger, nullable=False, server_default="0"),
    states("state", "ready", "leased", "done", "cancelled", "split"),
    CheckConstraint("hi > lo", name="range"),
    Index("ix_shards_job_id_state_lo", "job_id", "state", "lo"),
    Index("ix_shards_state_lease_until", "state", "lease_until"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("shard_id", Id, ForeignKey("shards.id"), nullable=False, index=True),
    Column("n", Integer, nullable=False),
    Column("worker_id", String(128), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=True),
    Column("outcome", String(12), nullable=True),  # done, released, lost, cancelled; NULL while it runs
    Column("error", Text, nullable=True),
)

results = Table(
    "results",
    metadata,
    Column("job_id", OfJob, ForeignKey("jobs.id"), primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("status", String(8), nullable=False),
    Column("error_code", String(24), nullable=True),
    Column("error", Text, nullable=True),
    Column("label", Text, nullable=True),
    Column("score", Double, nullable=True),
    Column("topk", Text, nullable=True),  # JSON list of {"label", "score"}, best first
    Column("content_hash", LargeBinary, nullable=True),  # BLAKE3, 128 bits
    Column("width", Integer, nullable=True),
    Column("height", Integer, nullable=True),
    Column("reused", Boolean, nullable=False, server_default="0"),
    Column("token", String(32), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("agrees", Boolean, nullable=True),  # with the item's true label; NULL where it has none, or failed
    states("status", "ok", "failed"),
    partial("ix_results_ok_score", "job_id", "score", "idx", where=IS_OK),
    Index("ix_results_job_id_label_score_idx", "job_id", "label", "score", "idx"),
    partial("ix_results_failed_error_code", "job_id", "error_code", "idx", where=IS_FAILED),
    partial("ix_results_wrong_score", "job_id", "score", "idx", where=IS_WRONG),
    Index("ix_results_job_id_created_at_idx", "job_id", "created_at", "idx"),
    sqlite_with_rowid=False,
)

# How many results of a job have which value: kept by the transactions that write them.
tallies = Table(
    "tallies",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("kind", String(12), primary_key=True),
    Column("value", Text, primary_key=True),  # a label; an error code; "1" or "0"; a twentieth of the scores, 00 … 19
    Column("n", BigInteger, nullable=False),
    states("kind", "label", "error_code", "agrees", "score"),
    sqlite_with_rowid=False,
)

# Where an answer is already known: by a file's content, or by its unchanged path, size and time.
memo = Table(
    "memo",
    metadata,
    Column("key", LargeBinary, primary_key=True),  # BLAKE3, 128 bits
    Column("model_id", Id, ForeignKey("models.id"), primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("job_id", Id, nullable=False),
    Column("idx", BigInteger, nullable=False),
    states("kind", "content", "file"),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=True, index=True),  # NULL once the job is removed
    Column("name", String(64), nullable=False),
    Column("state", String(20), nullable=False),  # queued, running, paused, done, failed, cancelled: follows the job's
    Column("recipe", Text, nullable=False, server_default="{}"),
    Column("fingerprint", String(64), nullable=True),  # of the training data; set when the survey is whole
    Column("model_id", Id, ForeignKey("models.id"), nullable=True),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double, nullable=True),
    Column("error", Text, nullable=True),
    Column("uid", String(32), nullable=True),  # a name for its folder that no other database gives again
    Column("stage", String(16), nullable=False, server_default=""),
    Column("progress", Text, nullable=False, server_default="{}"),  # JSON object: of the stage, now
    Column("options", Text, nullable=False, server_default="{}"),  # JSON object
    Column("seed", BigInteger, nullable=True),
    Column("monitor", String(16), nullable=False, server_default="val_loss"),
    Column("epochs_planned", Integer, nullable=False, server_default="1"),
    Column("base_model_id", Id, ForeignKey("models.id"), nullable=True),
    Column("continued_from", Id, ForeignKey("runs.id"), nullable=True),
    Column("started_at", Double, nullable=True),
    Column("device", Text, nullable=True),
    Column("libraries", Text, nullable=False, server_default="{}"),  # JSON object: name to version
    Column("code_version", Text, nullable=True),
    Column("best_epoch", Integer, nullable=True),
    Column("best_value", Double, nullable=True),  # of what is monitored
    Column("images_train", BigInteger, nullable=True),
    Column("images_val", BigInteger, nullable=True),
    Column("images_test", BigInteger, nullable=True),
    Column("census", Text, nullable=False, server_default="{}"),  # JSON object
    Column("checkpoint", Text, nullable=True),  # path
    Column("checkpoint_epoch", Integer, nullable=True),  # whole epochs that it holds
    Column("checkpoint_step", Integer, nullable=True),  # steps of the next one
    Column("keep_best", Boolean, nullable=False, server_default="0"),  # a person asked for an early end
    Column("evaluation_job_id", Id, ForeignKey("jobs.id"), nullable=True, index=True),
    Column("report_path", Text, nullable=True),
    Column("owner", String(64), nullable=False, server_default=""),  # its job's
    Index("uq_runs_uid", "uid", unique=True),
    Index("ix_runs_name", "name"),
    Index("ix_runs_model_id", "model_id"),
)

epochs = Table(
    "epochs",
    metadata,
    Column("run_id", Id, ForeignKey("runs.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("loss", Double, nullable=True),
    Column("accuracy", Double, nullable=True),
    Column("val_loss", Double, nullable=True),
    Column("val_accuracy", Double, nullable=True),
    Column("learning_rate", Double, nullable=True),
    Column("seconds", Double, nullable=True),
    Column("metrics", Text, nullable=False, server_default="{}"),  # JSON: everything else
    Column("phase", String(16), nullable=False, server_default=""),
    Column("top5", Double, nullable=True),
    Column("val_top5", Double, nullable=True),
    Column("images_per_s", Double, nullable=True),
    Column("improved", Boolean, nullable=False, server_default="0"),  # the best until then; the last such is the best
    Column("patience_left", Integer, nullable=True),
)

# The usable images of a run: what `items` and `results` are to a classify job.
run_items = Table(
    "run_items",
    metadata,
    Column("run_id", Id, ForeignKey("runs.id"), primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),  # the item's, in the run's job
    Column("split", String(8), nullable=False),
    Column("content_hash", LargeBinary, nullable=False),  # BLAKE3, 128 bits
    Column("group_key", Text, nullable=True),
    states("split", "train", "val", "test"),
    sqlite_with_rowid=False,
)

findings = Table(
    "findings",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("runs.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("idx", BigInteger, nullable=True),
    Column("other_idx", BigInteger, nullable=True),
    Column("distance", Double, nullable=True),
    Column("detail", Text, nullable=False, server_default=""),
    states("kind", "duplicate", "near_duplicate", "label_conflict", "leak", "small_class"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True, autoincrement=False),
    Column("run_id", Id, ForeignKey("runs.id"), nullable=True, index=True),
    Column("model_id", Id, ForeignKey("models.id"), nullable=False, index=True),
    Column("split", String(16), nullable=True),
    Column("images", BigInteger, nullable=False),
    Column("accuracy", Double, nullable=False),
    Column("top5", Double, nullable=True),
    Column("macro_f1", Double, nullable=True),
    Column("ece", Double, nullable=True),  # expected calibration error
    Column("report_path", Text, nullable=True),
    Column("created_at", Double, nullable=False),
)

# Insert-only: the newest of an item counts.
corrections = Table(
    "corrections",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("idx", BigInteger, nullable=False),
    Column("label", Text, nullable=True),  # NULL withdraws what was said before
    Column("author", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Index("ix_corrections_job_id_idx_id", "job_id", "idx", "id"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),  # host/device
    Column("host", String(64), nullable=False),
    Column("device", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("state", String(12), nullable=False),  # idle, busy, stopped
    Column("model", Text, nullable=True),  # warm models, most recent first
    Column("images", BigInteger, nullable=False, server_default="0"),  # since it started
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("trouble", Text, nullable=True),  # what it waits for where it cannot go on: space
)

# In the order in which they became visible: see store.events.
events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=True),
    Column("at", Double, nullable=False),
    Column("kind", String(24), nullable=False),
    Column("data", Text, nullable=False, server_default="{}"),  # JSON object
    Index("ix_events_job_id_id", "job_id", "id"),
    sqlite_autoincrement=True,  # the id of a removed event is never given again: readers go on after an id
)
