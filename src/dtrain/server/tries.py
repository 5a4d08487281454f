"""Counting wrong secrets, so that none is found by trying."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import deque

from dtrain.protocol.errors import Unavailable

_MINUTE = 60.0
_ADDRESSES = 10_000
"""As many are remembered; with one more, all are forgotten."""


class Tries:
    """The wrong secrets of the last minute, by the network address that they came from.

    Threads may share it.

    Args:
        limit: how many an address may show within a minute.
        what: they are.
    """

    def __init__(self, limit: int, what: str = "tokens") -> None:
        self._limit = limit
        self._what = what
        self._guard = threading.RLock()
        self._by_address: dict[str, deque[float]] = {}

    def check(self, address: str, target: str = "") -> None:
        """Let an address try.

        Args:
            address: of who tries.
            target: at what, where tries at several things are counted apart.

        Raises:
            Unavailable: it has tried too often (`too_many_tries`, status 429).
        """
        now = time.monotonic()
        with self._guard:
            tries = self._by_address.get(_key(address, target), deque())
            recent = [moment for moment in tries if moment > now - _MINUTE]
        if len(recent) >= self._limit:
            raise Unavailable(
                f"Too many wrong {self._what} from this address; wait a minute and try again.",
                code="too_many_tries",
                status=429,
                retry_after=recent[0] + _MINUTE - now,
            )

    def note(self, address: str, target: str = "") -> None:
        """A wrong secret came from an address."""
        with self._guard:
            if len(self._by_address) >= _ADDRESSES:
                self._by_address.clear()
            tries = self._by_address.setdefault(_key(address, target), deque(maxlen=self._limit))
            tries.append(time.monotonic())

    def begin(self, address: str, target: str = "") -> None:
        """Count a secret as wrong before that is known: many at once are no more than in a row.

        Raises:
            Unavailable: the address has tried too often (`too_many_tries`, status 429).
        """
        with self._guard:
            self.check(address, target)
            self.note(address, target)

    def forgive(self, address: str, target: str = "") -> None:
        """The secret that came last was not wrong."""
        with self._guard:
            if tries := self._by_address.get(_key(address, target)):
                tries.pop()


def _key(address: str, target: str) -> str:
    return f"{_subscriber(address)} {target}"


def _subscriber(address: str) -> str:
    """What of an address a single caller cannot change: of IPv6 the network of 64 bits."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 6 and known.ipv4_mapped is None:
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
