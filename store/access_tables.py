"""The tables of the HTTP API: who may ask, what was asked, sent and is to be told. Part of store.tables."""

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from store.columns import Id, metadata, states

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("prefix", String(8), nullable=False),  # of the secret: what a person may see of it
    Column("hash", LargeBinary, nullable=False, unique=True),  # SHA-256 of the secret
    Column("owner", String(64), nullable=False),
    Column("scopes", Text, nullable=False),  # read, submit, admin: separated by spaces
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=True),
    Column("last_used_at", Double, nullable=True),
    Column("revoked_at", Double, nullable=True),
    Column("max_queued_items", BigInteger, nullable=True),
    Column("max_upload_bytes", BigInteger, nullable=True),
    Column("requests_per_minute", Integer, nullable=True),
)

# Which job a request with an idempotency key has made.
requests = Table(
    "requests",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=True, index=True),  # NULL once the job is removed
    Column("created_at", Double, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("state", String(8), nullable=False),
    Column("files", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Double, nullable=False),
    Column("touched_at", Double, nullable=False),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=True, index=True),
    states("state", "open", "sealed", "gone"),  # gone: its files are being deleted
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", Text, nullable=False, server_default="[]"),  # JSON list of kinds; empty: all
    Column("active", Boolean, nullable=False, server_default="1"),
    Column("created_at", Double, nullable=False),
    Column("last_event_id", BigInteger, nullable=False, server_default="0"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("webhook_id", String(32), ForeignKey("webhooks.id"), nullable=False),
    Column("event_id", BigInteger, nullable=True),  # NULL: a test call. The event may be removed before it is sent
    Column("message_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),  # the same at every attempt
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("leased_until", Double, nullable=True),
    Column("status", Integer, nullable=True),  # HTTP status of the last attempt
    Column("error", Text, nullable=True),
    Column("created_at", Double, nullable=False),
    Column("delivered_at", Double, nullable=True),
    states("state", "due", "sent", "failed"),
    Index("uq_deliveries_webhook_id_event_id", "webhook_id", "event_id", unique=True),
    Index("ix_deliveries_state_not_before", "state", "not_before"),
)

# What only ever grows, beyond what can be counted in the tables.
counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("n", BigInteger, nullable=False),
)
