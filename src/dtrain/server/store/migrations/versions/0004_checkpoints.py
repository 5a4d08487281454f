"""What jobs need to go on elsewhere is kept while they run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_JOB_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "checkpoints",
        sa.Column("job_id", _JOB_ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.Double(), nullable=False),
        sa.Column("dropped_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_checkpoints_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "generation", name=op.f("pk_checkpoints")),
    )
    op.create_index(op.f("ix_checkpoints_dropped_at"), "checkpoints", ["dropped_at"], unique=False)
    op.create_table(
        "checkpoint_files",
        sa.Column("job_id", _JOB_ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id", "generation"],
            ["checkpoints.job_id", "checkpoints.generation"],
            name=op.f("fk_checkpoint_files_job_id_generation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "generation", "path", name=op.f("pk_checkpoint_files")),
    )
    op.create_index(
        op.f("ix_checkpoint_files_sha256"), "checkpoint_files", ["sha256"], unique=False
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("checkpoint_files")
    op.drop_table("checkpoints")
