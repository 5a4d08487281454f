"""Wake-ups inside the process: who waits for what, and who is told.

Topics are plain words (`store` names them); a waiter is woken at least once after every notice of
its topic, and looks for itself at what there is: a wake-up carries nothing that could be lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Mailboxes:
    """Waiters by topic, and listeners by the kind of topic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[threading.Event]] = {}
        self._listeners: dict[str, Callable[[str], None]] = {}

    def subscribe(self, kind: str, listener: Callable[[str], None]) -> None:
        """Have the listener called, in the notifying thread, for each topic `kind` or `kind:rest`.

        The listener gets the rest. It must be quick and must not raise.
        """
        self._listeners[kind] = listener

    @contextmanager
    def listen(self, *topics: str) -> Iterator[threading.Event]:
        """An event that is set whenever one of the topics is told; the waiter clears it."""
        event = threading.Event()
        with self._lock:
            for topic in topics:
                self._waiting.setdefault(topic, set()).add(event)
        try:
            yield event
        finally:
            with self._lock:
                for topic in topics:
                    waiting = self._waiting[topic]
                    waiting.discard(event)
                    if not waiting:
                        del self._waiting[topic]

    def wake(self, topic: str) -> None:
        """Tell everyone who waits for the topic."""
        kind, _, rest = topic.partition(":")
        listener = self._listeners.get(kind)
        if listener is not None:
            listener(rest)
        with self._lock:
            for event in self._waiting.get(topic, ()):
                event.set()

    def wake_all(self) -> None:
        """Tell everyone, whatever they wait for: the server ends."""
        with self._lock:
            for waiting in self._waiting.values():
                for event in waiting:
                    event.set()
