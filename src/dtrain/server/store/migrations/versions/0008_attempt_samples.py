"""What attempts used of their workers, again and again while they ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "attempt_samples",
        sa.Column("job_id", _Big, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("usage", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.id"],
            name=op.f("fk_attempt_samples_job_id_jobs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "at", name=op.f("pk_attempt_samples")),
    )
    op.add_column("attempts", sa.Column("sampled_at", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("attempts", "sampled_at")
    op.drop_table("attempt_samples")
