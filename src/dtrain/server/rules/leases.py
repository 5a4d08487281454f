"""How long a silence is borne, and what it means."""

from __future__ import annotations

LEASE = 60.0
"""Seconds for which an attempt is its worker's after each poll; then it is out of reach."""
GIVE_UP = 300.0
"""Seconds without a poll after which an attempt is given up."""
UNLISTED = 15.0
"""Seconds for which a poll may lack an attempt that it crossed on the way."""
EXTENSION = 120.0
"""Seconds that every lease has after the server, its database or its clock was away."""
OFFLINE_AFTER = 30.0
"""Seconds of silence after which a worker is shown as offline."""
PATIENCE = 300.0
"""Seconds for which a reported end waits for more of the bytes that belong to it."""


def is_away(last_seen: float, now: float, *, left: bool) -> bool:
    """Whether a worker has said goodbye, or has been silent for too long."""
    return left or now - last_seen > OFFLINE_AFTER


def worker_state(last_seen: float, now: float, *, left: bool, draining: bool) -> str:
    """`online`, `draining` or `offline`."""
    if is_away(last_seen, now, left=left):
        return "offline"
    return "draining" if draining else "online"
