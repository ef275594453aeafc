"""Trainings: everything that a run and its epochs tell, the data of a run, evaluations, and their views."""

import sqlalchemy as sa
from alembic import op

from store.migrations import views_0001
from store.migrations.views_0002 import definitions

revision = "0002"
down_revision = "0001"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# SQLite can add and drop columns in place, with their references, but no constraint: so no table is made anew.
RUN_REFERENCES = (("base_model_id", "models"), ("continued_from", "runs"), ("evaluation_job_id", "jobs"))
RUN_INDEXES = (
    ("uq_runs_uid", "uid", True),
    ("ix_runs_name", "name", False),
    ("ix_runs_model_id", "model_id", False),
    ("ix_runs_evaluation_job_id", "evaluation_job_id", False),
)


def _run_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("uid", sa.String(length=32), nullable=True),
        sa.Column("stage", sa.String(length=16), server_default="", nullable=False),
        sa.Column("progress", sa.Text(), server_default="{}", nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("monitor", sa.String(length=16), server_default="val_loss", nullable=False),
        sa.Column("epochs_planned", sa.Integer(), server_default="1", nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("libraries", sa.Text(), server_default="{}", nullable=False),
        sa.Column("code_version", sa.Text(), nullable=True),
        sa.Column("best_epoch", sa.Integer(), nullable=True),
        sa.Column("best_value", sa.Double(), nullable=True),
        sa.Column("images_train", sa.BigInteger(), nullable=True),
        sa.Column("images_val", sa.BigInteger(), nullable=True),
        sa.Column("images_test", sa.BigInteger(), nullable=True),
        sa.Column("census", sa.Text(), server_default="{}", nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("checkpoint_epoch", sa.Integer(), nullable=True),
        sa.Column("checkpoint_step", sa.Integer(), nullable=True),
        sa.Column("keep_best", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("report_path", sa.Text(), nullable=True),
    ]


def _epoch_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("phase", sa.String(length=16), server_default="", nullable=False),
        sa.Column("top5", sa.Double(), nullable=True),
        sa.Column("val_top5", sa.Double(), nullable=True),
        sa.Column("images_per_s", sa.Double(), nullable=True),
        sa.Column("improved", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("patience_left", sa.Integer(), nullable=True),
    ]


def _grow_runs(dialect: str) -> None:
    for column in _run_columns():
        op.add_column("runs", column)
    kind, new_uid = ("INTEGER", "lower(hex(randomblob(16)))")
    if dialect == "postgresql":
        kind, new_uid = ("BIGINT", "replace(gen_random_uuid()::text, '-', '')")
    for name, table in RUN_REFERENCES:
        op.execute(f"ALTER TABLE runs ADD COLUMN {name} {kind} CONSTRAINT fk_runs_{name} REFERENCES {table} (id)")
    op.execute(f"UPDATE runs SET uid = {new_uid}")
    for index, column_name, unique in RUN_INDEXES:
        op.create_index(index, "runs", [column_name], unique=unique)


def _create_run_items() -> None:
    op.create_table(
        "run_items",
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("idx", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("split", sa.String(length=8), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("group_key", sa.Text(), nullable=True),
        sa.CheckConstraint("split IN ('train', 'val', 'test')", name=op.f("ck_run_items_split")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_items_run_id")),
        sa.PrimaryKeyConstraint("run_id", "idx", name=op.f("pk_run_items")),
        sqlite_with_rowid=False,
    )


def _create_findings() -> None:
    op.create_table(
        "findings",
        sa.Column("id", BIG, nullable=False),
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("idx", sa.BigInteger(), nullable=True),
        sa.Column("other_idx", sa.BigInteger(), nullable=True),
        sa.Column("distance", sa.Double(), nullable=True),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "kind IN ('duplicate', 'near_duplicate', 'label_conflict', 'leak', 'small_class')",
            name=op.f("ck_findings_kind"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_findings_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    op.create_index("ix_findings_run_id", "findings", ["run_id"])


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("job_id", BIG, autoincrement=False, nullable=False),
        sa.Column("run_id", BIG, nullable=True),
        sa.Column("model_id", BIG, nullable=False),
        sa.Column("split", sa.String(length=16), nullable=True),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=False),
        sa.Column("top5", sa.Double(), nullable=True),
        sa.Column("macro_f1", sa.Double(), nullable=True),
        sa.Column("ece", sa.Double(), nullable=True),
        sa.Column("report_path", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_evaluations_job_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_evaluations_run_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_evaluations_model_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_evaluations")),
    )
    op.create_index("ix_evaluations_run_id", "evaluations", ["run_id"])
    op.create_index("ix_evaluations_model_id", "evaluations", ["model_id"])


def _replace_views(before: dict[str, str], after: dict[str, str]) -> None:
    for name in reversed(before):
        op.execute(f"DROP VIEW {name}")
    for name, select in after.items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def upgrade() -> None:
    """Add columns and tables; the views are made anew over them."""
    dialect = op.get_bind().dialect.name
    _replace_views(views_0001.definitions(dialect), {})
    _grow_runs(dialect)
    for column in _epoch_columns():
        op.add_column("epochs", column)
    _create_run_items()
    _create_findings()
    _create_evaluations()
    _replace_views({}, definitions(dialect))


def downgrade() -> None:
    """Take the tables and columns away, with what is in them; runs and epochs keep what they could hold before."""
    dialect = op.get_bind().dialect.name
    _replace_views(definitions(dialect), {})
    for table in ("evaluations", "findings", "run_items"):
        op.drop_table(table)
    for index, _, _ in RUN_INDEXES:
        op.drop_index(index, "runs")
    for name, _ in RUN_REFERENCES:
        op.execute(f"ALTER TABLE runs DROP COLUMN {name}")
    for column in _run_columns():
        op.drop_column("runs", column.name)
    for column in _epoch_columns():
        op.drop_column("epochs", column.name)
    _replace_views({}, views_0001.definitions(dialect))
