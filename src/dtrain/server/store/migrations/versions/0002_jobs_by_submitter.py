"""Jobs are found by who handed them in."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_submitter_id"


def upgrade() -> None:
    """Apply it."""
    op.create_index(op.f(_INDEX), "jobs", ["submitter", "id"], unique=False)


def downgrade() -> None:
    """Take it back."""
    op.drop_index(op.f(_INDEX), table_name="jobs")
