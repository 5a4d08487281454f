"""The tables, declared once; the migrations must arrive at the same (a test compares them).

Times are seconds since the epoch, sizes are bytes, structured values are JSON text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Big = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column of the type INTEGER."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Big, primary_key=True),
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("submitter", Text),
    Column("bundle_sha256", String(64), nullable=False),
    Column("request_key", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("retry_of", _Big),
    Column("idempotency_key", String(64), unique=True),
    Column("created_at", Double, nullable=False),
    # From here on: written by `jobs.apply` alone, as `rules.lifecycle` decides.
    Column("status", String(16), nullable=False),
    Column("phase", String(16)),
    Column("reason", String(32)),
    Column("message", Text),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", String(36)),
    Column("cancel", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("lost_on", Text, nullable=False),
    Column("not_before", Double),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("peak_memory", BigInteger),
    Column("traceback", Text),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("version", Integer, nullable=False),
    # The latest PROGRESS record of the attempt that counts, beside the lifecycle.
    Column("progress", Text),
    Column("fraction", Double),
    CheckConstraint(
        "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')", name="status"
    ),
    Index("ix_jobs_as_served", "status", "request_key", text("priority DESC"), "id"),
    Index(None, "status", "id"),
    Index(None, "status", "priority", "id"),
    Index(None, "worker_id", "id"),
    Index(None, "submitter", "id"),
    Index(None, "not_before"),
    Index(None, "bundle_sha256"),
    sqlite_autoincrement=True,
)

job_tags = Table(
    "job_tags",
    metadata,
    Column("tag", Text, nullable=False),
    Column("job_id", _Big, nullable=False),
    PrimaryKeyConstraint("tag", "job_id"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index(None, "job_id"),
)

requests = Table(
    "requests",
    metadata,
    # Jobs that ask for the same have the same key: the waiting are looked at by kind.
    Column("key", String(64), primary_key=True),
    Column("body", Text, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("number", Integer, nullable=False),
    Column("worker_id", String(36), nullable=False),
    Column("secret_hash", String(64), nullable=False),
    # assigned: given, not yet seen on the worker; live; lost: the lease ran out, may come back;
    # finishing: its end is known, bytes are missing; ended.
    Column("state", String(16), nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("told_cancel", Integer, nullable=False),
    Column("claimed_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("finish", Text),
    Column("finish_at", Double),
    Column("log_bytes", BigInteger, nullable=False),
    Column("log_lines", BigInteger, nullable=False),
    Column("log_carry", LargeBinary, nullable=False),
    Column("metric_records", Integer, nullable=False),
    # Whether all of the log has been moved into a blob.
    Column("log_sealed", Boolean, nullable=False),
    # When its latest sample was taken.
    Column("sampled_at", Double),
    PrimaryKeyConstraint("job_id", "number"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    UniqueConstraint("secret_hash"),
    Index(None, "worker_id", "state"),
    Index(None, "state", "lease_until"),
    Index(None, "log_sealed", "state"),
)

attempt_samples = Table(
    "attempt_samples",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("usage", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "attempt", "at"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("credential_hash", String(64), nullable=False, unique=True),
    Column("session", Integer, nullable=False),
    Column("poll_number", BigInteger, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("capacity", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("asks", Boolean, nullable=False),
    Column("answer_on_page", Boolean, nullable=False, server_default=false()),
    # Told by an operator, and told by the worker itself.
    Column("drained", Boolean, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("left", Boolean, nullable=False),
    Column("enrolled_at", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
)

worker_samples = Table(
    "worker_samples",
    metadata,
    Column("worker_id", String(36), nullable=False),
    # Counted from the epoch.
    Column("minute", Integer, nullable=False),
    Column("metrics", Text, nullable=False),
    PrimaryKeyConstraint("worker_id", "minute"),
)

offers = Table(
    "offers",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("worker_id", String(36), nullable=False),
    # open, or declined.
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("at", Double, nullable=False),
    PrimaryKeyConstraint("job_id", "worker_id"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index(None, "worker_id", "state"),
)

page_answers = Table(
    "page_answers",
    metadata,
    # What was answered on a worker's page, for the seconds until the worker has settled it.
    Column("id", String(32), primary_key=True),
    Column("worker_id", String(36), nullable=False),
    Column("job_id", _Big, nullable=False),
    Column("accept", Boolean, nullable=False),
    Column("reason", Text),
    Column("proof", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("outcome", String(16)),
    Column("detail", Text),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index(None, "worker_id"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", _Big, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("job_id", _Big),
    Column("worker_id", String(36)),
    Column("at", Double, nullable=False),
    Column("data", Text, nullable=False),
    Index(None, "job_id", "id"),
    sqlite_autoincrement=True,
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("length", Integer, nullable=False),
    # Newlines before the chunk, and in it: the index by which a line is found.
    Column("first_line", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    # Compressed with zlib: here while the log grows, in a blob once it is finished.
    Column("data", LargeBinary),
    Column("blob_sha256", String(64)),
    Column("blob_start", BigInteger),
    Column("blob_length", Integer),
    PrimaryKeyConstraint("job_id", "attempt", "start"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index(None, "job_id", "attempt", "first_line"),
)

metric_records = Table(
    "metric_records",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("step", Double, nullable=False),
    Column("at", Double, nullable=False),
    Column("record", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "attempt", "seq"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

metric_spans = Table(
    "metric_spans",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("attempt", Integer, nullable=False),
    # How many records it has, and the number of the first.
    Column("width", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("points", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "attempt", "width", "first"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    PrimaryKeyConstraint("job_id", "attempt", "path"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index(None, "sha256"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("files", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("taken_at", Double, nullable=False),
    # When nothing could need it any more: it is thrown away a little later.
    Column("dropped_at", Double),
    PrimaryKeyConstraint("job_id", "generation"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
    Index(None, "dropped_at"),
)

checkpoint_files = Table(
    "checkpoint_files",
    metadata,
    Column("job_id", _Big, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("mode", Integer, nullable=False),
    PrimaryKeyConstraint("job_id", "generation", "path"),
    ForeignKeyConstraint(
        ["job_id", "generation"],
        ["checkpoints.job_id", "checkpoints.generation"],
        ondelete="CASCADE",
    ),
    Index(None, "sha256"),
)
