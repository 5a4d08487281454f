"""Wake-ups inside the process: who waits for what, and who is told.

Topics are plain words (`store` names them); a waiter is woken at least once after every notice of
its topic, and looks for itself at what there is: a wake-up carries nothing that could be lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

_TURN = 0.002
"""Seconds from one to the next of those who wait for the same."""
_AT_ONCE = 4
"""So many that were woken may wait to run before another is woken."""


class Waiter(threading.Event):
    """An event of one waiter, who clears it before each look at what there is."""

    def __init__(self) -> None:
        super().__init__()
        self._waits = False

    @property
    def is_late(self) -> bool:
        """Whether it was set and whoever waits for that has not begun to run."""
        return self._waits and self.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """As of any event."""
        self._waits = True
        try:
            return super().wait(timeout)
        finally:
            self._waits = False


class Mailboxes:
    """Waiters by topic, and listeners by the kind of topic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[Waiter]] = {}
        self._listeners: dict[str, Callable[[str], None]] = {}
        self._turns = _Turns()

    def subscribe(self, kind: str, listener: Callable[[str], None]) -> None:
        """Have the listener called, in the notifying thread, for each topic `kind` or `kind:rest`.

        The listener gets the rest. It must be quick and must not raise.
        """
        self._listeners[kind] = listener

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Waiter]:
        """An event that is set whenever one of the topics is told; the waiter clears it."""
        event = Waiter()
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
        """Tell everyone who waits for the topic; of many, a few at a time."""
        kind, _, rest = topic.partition(":")
        listener = self._listeners.get(kind)
        if listener is not None:
            listener(rest)
        with self._lock:
            waiting = self._waiting.get(topic, ())
            if len(waiting) == 1:
                next(iter(waiting)).set()
            elif waiting:
                self._turns.add(waiting)

    def wake_all(self) -> None:
        """Tell everyone at once, whatever they wait for: the server ends."""
        with self._lock:
            for waiting in self._waiting.values():
                for event in waiting:
                    event.set()
        self._turns.end()


class _Turns:
    """Sets events a few at a time.

    Threads that are woken together wait together for the interpreter's lock, and each asks for it
    again and again while it waits: two hundred who watch a job kept a slow machine from anything
    else. Whoever watches is to wait, not the workers.
    """

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._due: dict[Waiter, None] = {}
        self._thread: threading.Thread | None = None

    def add(self, events: Iterable[Waiter]) -> None:
        """Have the events set soon; one whose turn is still to come keeps its place."""
        with self._moved:
            self._due.update(dict.fromkeys(events))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="turns", daemon=True)
                self._thread.start()
            self._moved.notify()

    def end(self) -> None:
        """Set none of them any more."""
        with self._moved:
            self._due.clear()
            self._thread = None
            self._moved.notify_all()

    def _run(self) -> None:
        woken: list[Waiter] = []
        while True:
            with self._moved:
                while not self._due:
                    if self._thread is not threading.current_thread():
                        return
                    self._moved.wait()
                event = next(iter(self._due))
                del self._due[event]
            event.set()
            woken.append(event)
            time.sleep(_TURN)
            while len(woken := [each for each in woken if each.is_late]) >= _AT_ONCE:
                time.sleep(_TURN)
