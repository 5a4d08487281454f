"""Whose attempt it is, and whether it still counts: checked before every write about it."""

from __future__ import annotations

import hmac

import msgspec
import sqlalchemy as sa

from dtrain.protocol.errors import Conflict
from dtrain.server.store import attempts
from dtrain.server.store.attempts import Attempt


class AttemptRef(msgspec.Struct, frozen=True):
    """Which attempt a worker speaks of, and the proof that it is its own."""

    worker_id: str
    job_id: int
    attempt: int
    secret: str


def owns(attempt: Attempt, worker_id: str, secret: str) -> bool:
    """Whether the attempt is this worker's and was claimed with the secret."""
    return attempt.worker_id == worker_id and hmac.compare_digest(
        attempt.secret_hash, attempts.hash_secret(secret)
    )


def owned(connection: sa.Connection, ref: AttemptRef, *, lock: bool = True) -> Attempt:
    """The attempt if it is the worker's, whether or not it still counts.

    Args:
        connection: inside a transaction.
        ref: which attempt, and the proof.
        lock: whether it is kept from other writers, which only a writing transaction can; whoever
            locks the job as well does that first.

    Raises:
        Conflict: it is not (`stale`, status 410 if there is no such attempt).
    """
    find = attempts.lock if lock else attempts.get
    attempt = find(connection, ref.job_id, ref.attempt)
    if attempt is None:
        raise Conflict(
            f"There is no attempt {ref.attempt} of job {ref.job_id}; forget it.",
            code="stale",
            status=410,
        )
    if not owns(attempt, ref.worker_id, ref.secret):
        raise stale(ref)
    return attempt


def current(connection: sa.Connection, ref: AttemptRef, *, lock: bool = True) -> Attempt:
    """As `owned`, for a write that only an attempt that has not ended may do.

    Raises:
        Conflict: the attempt is not the worker's, or has ended (`stale`).
    """
    attempt = owned(connection, ref, lock=lock)
    if attempt.state == "ended":
        raise stale(ref)
    return attempt


def stale(ref: AttemptRef) -> Conflict:
    """The error for an attempt that no longer counts."""
    return Conflict(
        f"Attempt {ref.attempt} of job {ref.job_id} no longer counts; kill it and forget it.",
        code="stale",
    )
