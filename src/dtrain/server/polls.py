"""The polls that are being held, and which of them a new job wakes.

Waking is only a hint: the woken poll looks for itself, and a poll looks anyway when its time is up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dtrain.protocol.errors import Unavailable
from dtrain.protocol.resources import Capacity, Free, Request, fits

from .mailboxes import Mailboxes


class Held:
    """One held poll."""

    def __init__(
        self,
        polls: HeldPolls,
        woken: threading.Event,
        capacity: Capacity,
        free: Free,
        *,
        asks: bool,
    ) -> None:
        self._polls = polls
        self.woken = woken
        self.capacity = capacity
        self.free = free
        self.asks = asks

    def wait(self, free: Free, timeout: float) -> bool:
        """Wait to be woken; then count as waiting again, ready for the next look.

        Args:
            free: what the worker has free, by the last look.
            timeout: seconds.

        Returns:
            False if the time ran out.
        """
        self.free = free
        if not self.woken.wait(timeout):
            return False
        # Before the look, not after it: what comes while it looks must wake it once more.
        self.woken.clear()
        self._polls.add(self)
        return True


class HeldPolls:
    """The held polls of this process, the longest waiting first."""

    def __init__(
        self, mailboxes: Mailboxes, request_by_key: Callable[[str], Request | None]
    ) -> None:
        self._request_by_key = request_by_key
        self._requests: dict[str, Request] = {}
        self._lock = threading.Lock()
        self._held: dict[Held, None] = {}
        mailboxes.subscribe("queued", self._wake_for)

    @contextmanager
    def hold(
        self, woken: threading.Event, capacity: Capacity, free: Free, *, asks: bool
    ) -> Iterator[Held]:
        """Count as waiting for a job meanwhile."""
        held = Held(self, woken, capacity, free, asks=asks)
        self.add(held)
        try:
            yield held
        finally:
            with self._lock:
                self._held.pop(held, None)

    def add(self, held: Held) -> None:
        """Let a new job wake it; it goes to the end of the line unless it is in it."""
        with self._lock:
            self._held[held] = None

    def __len__(self) -> int:
        return len(self._held)

    def _wake_for(self, request_key: str) -> None:
        try:
            request = self._request(request_key)
        except Unavailable:  # the job is stored, whoever is told of it
            with self._lock:
                self._wake(list(self._held))
            return
        if request is None:
            return
        with self._lock:
            able = [held for held in self._held if fits(request, held.capacity, held.free)]
            # One worker that takes it by itself, else every owner who may be asked.
            self._wake([held for held in able if not held.asks][:1] or able)

    def _wake(self, chosen: list[Held]) -> None:
        for held in chosen:
            held.woken.set()
            # The next job is for somebody else.
            self._held.pop(held)

    def _request(self, key: str) -> Request | None:
        found = self._requests.get(key)
        if found is None:
            found = self._request_by_key(key)
            if found is not None:
                if len(self._requests) >= 10_000:
                    self._requests.clear()
                self._requests[key] = found
        return found
