"""How busy workers were, minute by minute."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "worker_samples",
        sa.Column("worker_id", sa.String(36), nullable=False),
        sa.Column("minute", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", "minute", name=op.f("pk_worker_samples")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("worker_samples")
