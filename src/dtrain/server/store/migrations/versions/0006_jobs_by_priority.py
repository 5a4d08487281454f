"""Jobs are listed by their priority."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INDEX = "ix_jobs_status_priority_id"


def upgrade() -> None:
    """Apply it."""
    op.create_index(op.f(_INDEX), "jobs", ["status", "priority", "id"], unique=False)


def downgrade() -> None:
    """Take it back."""
    op.drop_index(op.f(_INDEX), table_name="jobs")
