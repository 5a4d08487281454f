"""Run by Alembic: the migrations happen on the connection, and in the transaction, of `migrate`."""

from __future__ import annotations

from alembic import context

from dtrain.server.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
