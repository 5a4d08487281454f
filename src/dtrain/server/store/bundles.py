"""Bundles: what is known of each ZIP that has been handed in; its bytes are a blob."""

from __future__ import annotations

import sqlalchemy as sa

from dtrain.protocol.messages import BundleInfo

from .database import insert_or_hold
from .schema import bundles, jobs


def put(connection: sa.Connection, bundle: BundleInfo, now: float) -> None:
    """Make a bundle known, if it is not yet; kept from being forgotten, as by `known`."""
    insert_or_hold(
        connection,
        bundles,
        sha256=bundle.sha256,
        size=bundle.size,
        files=bundle.files,
        created_at=now,
    )


def known(connection: sa.Connection, sha256: str) -> BundleInfo | None:
    """A bundle, kept from being forgotten until the transaction ends; None if it is not known."""
    row = connection.execute(
        sa.select(bundles).where(bundles.c.sha256 == sha256).with_for_update()
    ).one_or_none()
    return None if row is None else BundleInfo(sha256=sha256, size=row.size, files=row.files)


def forget_unneeded(connection: sa.Connection, hashes: set[str]) -> set[str]:
    """Forget those of the bundles that no job needs; gives their hashes, unknown ones included."""
    # Whoever has locked one is about to store a job that needs it, which is to be seen below.
    connection.execute(
        sa.select(bundles.c.sha256).where(bundles.c.sha256.in_(hashes)).with_for_update()
    ).all()
    needed = set(
        connection.execute(
            sa.select(jobs.c.bundle_sha256).where(jobs.c.bundle_sha256.in_(hashes)).distinct()
        ).scalars()
    )
    connection.execute(bundles.delete().where(bundles.c.sha256.in_(hashes - needed)))
    return hashes - needed
