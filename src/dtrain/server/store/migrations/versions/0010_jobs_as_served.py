"""An index of waiting jobs in the order in which they are served: the most urgent, the oldest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_BEFORE = "ix_jobs_status_request_key_priority_id"
_NOW = "ix_jobs_as_served"


def upgrade() -> None:
    """Apply it."""
    op.create_index(_NOW, "jobs", ["status", "request_key", sa.text("priority DESC"), "id"])
    op.drop_index(_BEFORE, "jobs")


def downgrade() -> None:
    """Take it back."""
    op.create_index(_BEFORE, "jobs", ["status", "request_key", "priority", "id"])
    op.drop_index(_NOW, "jobs")
