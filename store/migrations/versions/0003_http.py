"""The HTTP API: tallies and agreement of results, indexes for its queries, tokens, uploads, webhooks, owned runs.

And jobs that stop or wait: how many images may fail, what a worker waits for.
"""

import sqlalchemy as sa
from alembic import op

from store.migrations import views_0002
from store.views import definitions  # whoever writes 0004 freezes them as views_0003 and takes those here

revision = "0003"
down_revision = "0002"

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
OK, FAILED = "status = 'ok'", "status = 'failed'"
NEW_INDEXES = (
    ("ix_results_ok_score", "results", "job_id, score, idx", OK),
    ("ix_results_job_id_label_score_idx", "results", "job_id, label, score, idx", None),
    ("ix_results_failed_error_code", "results", "job_id, error_code, idx", FAILED),
    ("ix_results_wrong_score", "results", "job_id, score, idx", "agrees = false"),
    ("ix_results_job_id_created_at_idx", "results", "job_id, created_at, idx", None),
    ("ix_items_job_id_path_idx", "items", "job_id, path, idx", None),
    ("ix_items_job_id_label_idx", "items", "job_id, label, idx", "label IS NOT NULL"),
    ("ix_jobs_owner_id", "jobs", "owner, id", None),
)
OLD_INDEXES = (
    ("ix_results_job_id_status", "results", "job_id, status", None),
    ("ix_results_job_id_label_score", "results", "job_id, label, score", None),
)
TABLES = ("tallies", "tokens", "requests", "uploads", "deliveries", "webhooks", "counters")
# Small tables are made anew in SQLite: it can change neither a column nor how ids are given.
EVENTS = "id, job_id, at, kind, data"
CORRECTIONS = "id, job_id, idx, label, author, created_at"


def _create_indexes(indexes: tuple[tuple[str, str, str, str | None], ...], dialect: str) -> None:
    for name, table, columns, where in indexes:
        condition = f" WHERE {where.replace('false', '0') if dialect == 'sqlite' else where}" if where else ""
        op.execute(f"CREATE INDEX {name} ON {table} ({columns}){condition}")


def _drop_indexes(indexes: tuple[tuple[str, str, str, str | None], ...]) -> None:
    for name, *_ in indexes:
        op.execute(f"DROP INDEX {name}")


def _job_reference(table: str, *, nullable: bool) -> tuple[sa.Column[int], sa.ForeignKeyConstraint]:
    column = sa.Column("job_id", BIG, autoincrement=False, nullable=nullable)
    return column, sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f(f"fk_{table}_job_id"))


def _create_tallies() -> None:
    op.create_table(
        "tallies",
        *_job_reference("tallies", nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('label', 'error_code', 'agrees', 'score')", name=op.f("ck_tallies_kind")),
        sa.PrimaryKeyConstraint("job_id", "kind", "value", name=op.f("pk_tallies")),
        sqlite_with_rowid=False,
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=8), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("max_queued_items", sa.BigInteger(), nullable=True),
        sa.Column("max_upload_bytes", sa.BigInteger(), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        *_job_reference("requests", nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_job_id", "requests", ["job_id"])


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("files", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        *_job_reference("uploads", nullable=True),
        sa.CheckConstraint("state IN ('open', 'sealed', 'gone')", name=op.f("ck_uploads_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_owner", "uploads", ["owner"])
    op.create_index("ix_uploads_job_id", "uploads", ["job_id"])


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), server_default="[]", nullable=False),
        sa.Column("active", sa.Boolean(), server_default="1", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_event_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_owner", "webhooks", ["owner"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", BIG, nullable=False),
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.Column("message_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.Double(), server_default="0", nullable=False),
        sa.Column("leased_until", sa.Double(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.CheckConstraint("state IN ('due', 'sent', 'failed')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_deliveries_webhook_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("uq_deliveries_webhook_id_event_id", "deliveries", ["webhook_id", "event_id"], unique=True)
    op.create_index("ix_deliveries_state_not_before", "deliveries", ["state", "not_before"])


def _create_counters() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )


def _make_anew(table: str, columns: str, definition: str, index: str) -> None:
    """Replace a table of SQLite's that nothing refers to by one with another definition and the same rows."""
    op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    op.execute(f"CREATE TABLE {table} ({definition})")
    op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table}")
    op.execute(f"DROP TABLE old_{table}")  # and its indexes
    op.execute(index)


def _remake_in_sqlite(*, ids: str, label: str, unique: str, indexes: tuple[str, str]) -> None:
    job = "job_id INTEGER{} CONSTRAINT fk_{}_job_id REFERENCES jobs (id)"
    _make_anew(
        "events",
        EVENTS,
        f"id INTEGER NOT NULL CONSTRAINT pk_events PRIMARY KEY{ids}, {job.format('', 'events')}, at DOUBLE NOT NULL,"
        " kind VARCHAR(24) NOT NULL, data TEXT DEFAULT '{}' NOT NULL",
        indexes[0],
    )
    _make_anew(
        "corrections",
        CORRECTIONS,
        f"id INTEGER NOT NULL CONSTRAINT pk_corrections PRIMARY KEY, {job.format(' NOT NULL', 'corrections')},"
        f" idx BIGINT NOT NULL, label TEXT{label}, author VARCHAR(64) NOT NULL, created_at DOUBLE NOT NULL{unique}",
        indexes[1],
    )


def _change_events_and_corrections(dialect: str) -> None:
    """Ids of events are never given again, and a correction can be withdrawn."""
    by_job = "CREATE INDEX ix_events_job_id_id ON events (job_id, id)"
    by_item = "CREATE INDEX ix_corrections_job_id_idx_id ON corrections (job_id, idx, id)"
    if dialect == "sqlite":
        _remake_in_sqlite(ids=" AUTOINCREMENT", label="", unique="", indexes=(by_job, by_item))
        return
    op.execute("DROP INDEX ix_events_job_id")
    op.execute("ALTER TABLE corrections ALTER COLUMN label DROP NOT NULL")
    op.execute("ALTER TABLE corrections DROP CONSTRAINT uq_corrections_job_id_idx_created_at")
    op.execute(by_job)
    op.execute(by_item)


def _change_events_and_corrections_back(dialect: str) -> None:
    """What schema 0002 cannot hold goes: withdrawals, and all but one of the corrections of the same moment."""
    same = "SELECT MAX(id) FROM corrections WHERE label IS NOT NULL GROUP BY job_id, idx, created_at"
    op.execute(f"DELETE FROM corrections WHERE id NOT IN ({same})")
    unique = "CONSTRAINT uq_corrections_job_id_idx_created_at UNIQUE (job_id, idx, created_at)"
    by_job = "CREATE INDEX ix_events_job_id ON events (job_id)"
    if dialect == "sqlite":
        _remake_in_sqlite(ids="", label=" NOT NULL", unique=f", {unique}", indexes=(by_job, "SELECT 1"))
        return
    op.execute("DROP INDEX ix_events_job_id_id")
    op.execute("DROP INDEX ix_corrections_job_id_idx_id")
    op.execute("ALTER TABLE corrections ALTER COLUMN label SET NOT NULL")
    op.execute(f"ALTER TABLE corrections ADD {unique}")
    op.execute(by_job)


def _count_what_is_there(dialect: str) -> None:
    """Fill results.agrees, tallies and runs.owner from what older versions have written."""
    true_label = "SELECT i.label FROM items i WHERE i.job_id = results.job_id AND i.idx = results.idx"
    # Where the item has no label, the comparison is NULL, as is the answer.
    op.execute(f"UPDATE results SET agrees = (label = ({true_label})) WHERE status = 'ok'")
    floor = "CAST(score * 20 AS INTEGER)" if dialect == "sqlite" else "CAST(FLOOR(score * 20) AS INTEGER)"
    twentieth = f"CASE WHEN score >= 1 THEN 19 WHEN score > 0 THEN {floor} ELSE 0 END"
    padded = f"printf('%02d', {twentieth})" if dialect == "sqlite" else f"lpad(CAST({twentieth} AS TEXT), 2, '0')"
    for kind, value, where in (
        ("label", "label", "status = 'ok' AND label IS NOT NULL"),
        ("error_code", "error_code", "status = 'failed' AND error_code IS NOT NULL"),
        ("agrees", "CASE WHEN agrees THEN '1' ELSE '0' END", "agrees IS NOT NULL"),
        ("score", padded, "status = 'ok' AND score IS NOT NULL"),
    ):
        counted = f"SELECT job_id, '{kind}', {value} AS v, COUNT(*) FROM results WHERE {where} GROUP BY job_id, v"
        op.execute(f"INSERT INTO tallies (job_id, kind, value, n) {counted}")
    owner = "SELECT j.owner FROM jobs j WHERE j.id = runs.job_id"
    op.execute(f"UPDATE runs SET owner = ({owner}) WHERE job_id IS NOT NULL")


def _order_paths(dialect: str, collation: str) -> None:
    if dialect == "postgresql":
        op.execute(f'ALTER TABLE items ALTER COLUMN path TYPE TEXT COLLATE "{collation}"')


def _replace_views(before: dict[str, str], after: dict[str, str]) -> None:
    for name in reversed(before):
        op.execute(f"DROP VIEW {name}")
    for name, select in after.items():
        op.execute(f"CREATE VIEW {name} AS {select}")


def upgrade() -> None:
    """Add columns, tables and indexes, and count what is there; the views are made anew over them."""
    dialect = op.get_bind().dialect.name
    _replace_views(views_0002.definitions(dialect), {})
    op.add_column("results", sa.Column("agrees", sa.Boolean(), nullable=True))
    op.add_column("runs", sa.Column("owner", sa.String(length=64), server_default="", nullable=False))
    op.add_column("jobs", sa.Column("max_failures", sa.String(length=16), nullable=True))
    op.add_column("jobs", sa.Column("done_before", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("workers", sa.Column("trouble", sa.Text(), nullable=True))
    _create_tallies()
    _create_tokens()
    _create_requests()
    _create_uploads()
    _create_webhooks()
    _create_deliveries()
    _create_counters()
    _count_what_is_there(dialect)
    _order_paths(dialect, "C")
    _drop_indexes(OLD_INDEXES)
    _create_indexes(NEW_INDEXES, dialect)
    _change_events_and_corrections(dialect)
    _replace_views({}, definitions(dialect))


def downgrade() -> None:
    """Take the tables and columns away, with what is in them; jobs, results and runs stay."""
    dialect = op.get_bind().dialect.name
    _replace_views(definitions(dialect), {})
    for table in TABLES:
        op.drop_table(table)
    _drop_indexes(NEW_INDEXES)
    _create_indexes(OLD_INDEXES, dialect)
    _change_events_and_corrections_back(dialect)
    _order_paths(dialect, "default")
    op.drop_column("workers", "trouble")
    op.drop_column("jobs", "done_before")
    op.drop_column("jobs", "max_failures")
    op.drop_column("runs", "owner")
    op.drop_column("results", "agrees")
    _replace_views({}, views_0002.definitions(dialect))
