"""Sending what must happen once, until an answer comes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from dtrain.protocol import routes
from dtrain.protocol.errors import Unavailable, Unreachable

from . import stream
from .transport import Response

TRIES = 5
"""How often it is sent at most."""
LONGEST_WAIT_TO_RETRY = 30.0
"""Seconds that a server's wish to be asked later is respected."""


def once(send: Callable[[dict[str, str]], Response]) -> Response:
    """Send, and send again while no answer comes, or one that asks for patience.

    Args:
        send: called with the header by which the server knows what it has seen already.

    Raises:
        DTrainError: it is refused, or no answer comes.
    """
    headers = {routes.IDEMPOTENCY_HEADER: secrets.token_hex(16)}
    waits = stream.pauses()
    for _ in range(TRIES - 1):
        try:
            return send(headers)
        except (Unreachable, Unavailable) as error:
            if error.code == "not_dtrain":
                raise
            time.sleep(max(next(waits), min(error.retry_after or 0, LONGEST_WAIT_TO_RETRY)))
    return send(headers)
