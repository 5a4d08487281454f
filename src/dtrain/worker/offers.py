"""The offers that are open at this worker, and which of them wait for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dtrain.protocol.worker_messages import Offer

from .policy import Verdict, Word


class State(Enum):
    """How an offer is that was open once."""

    OPEN = "open"
    """It waits for a word."""
    TAKEN = "taken"
    """Somebody has given his word on it."""
    GONE = "gone"
    """It has been withdrawn."""


@dataclass
class _Entry:
    offer: Offer
    verdict: Verdict
    due: float = 0.0
    """When it is to be decided; later than now if it was put off."""
    taken: bool = False
    """Whether somebody's word on it is on its way to the server."""

    def waits(self, now: float) -> bool:
        return not self.taken and self.due <= now

    @property
    def is_asked(self) -> bool:
        return self.verdict.word is Word.ASK


class OpenOffers:
    """All open offers. Threads may share it; whoever takes an offer is the only one to have it.

    Args:
        judge: what the owner's rules say of an offer.
    """

    def __init__(self, judge: Callable[[Offer], Verdict]) -> None:
        self._judge = judge
        self._guard = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._answered: dict[int, float] = {}

    def update(self, offers: list[Offer], asked_at: float) -> bool:
        """Take over all offers that are open; those missing are withdrawn. Whether they changed.

        Args:
            offers: as the server lists them.
            asked_at: when it was asked; what was answered after that may be on the list still.
        """
        with self._guard:
            self._answered = {key: at for key, at in self._answered.items() if at >= asked_at}
            before = list(self._entries)
            listed = {one.job_id: one for one in offers if one.job_id not in self._answered}
            kept = {key: entry for key, entry in self._entries.items() if key in listed}
            news = {
                key: _Entry(offer, self._judge(offer))
                for key, offer in listed.items()
                if key not in kept
            }
            self._entries = kept | news
            return list(self._entries) != before

    def to_ask(self, now: float) -> Offer | None:
        """The offer to put before the owner, if there is one."""
        with self._guard:
            return next((one.offer for one in self._asked(now)), None)

    def place(self, job_id: int, now: float) -> tuple[int, int]:
        """Which of the offers before the owner it is, from 1, and how many there are."""
        with self._guard:
            waiting = [entry.offer.job_id for entry in self._asked(now)]
        return (waiting.index(job_id) + 1 if job_id in waiting else 1), max(len(waiting), 1)

    def ruled(self, now: float, *, has_room: bool) -> tuple[Offer, Verdict] | None:
        """An offer that the owner's rules decide, with what they say.

        Args:
            now: on the clock of `put_off`.
            has_room: whether another job may start; else only what is declined is given.
        """
        with self._guard:
            for entry in self._entries.values():
                may = has_room or entry.verdict.word is Word.DECLINE
                if may and entry.waits(now) and not entry.is_asked:
                    return entry.offer, entry.verdict
            return None

    def next_due(self, now: float) -> float | None:
        """When the next of the offers that were put off is due."""
        with self._guard:
            return min((one.due for one in self._entries.values() if one.due > now), default=None)

    def take(self, job_id: int) -> Offer | None:
        """Have an offer to oneself, to tell the server the owner's word; None if it is not open.

        `put_off` or `answered` must follow.
        """
        with self._guard:
            entry = self._entries.get(job_id)
            if entry is None or entry.taken:
                return None
            entry.taken = True
            return entry.offer

    def put_off(self, job_id: int, until: float) -> None:
        """Have an offer decided at some time, after the others."""
        with self._guard:
            entry = self._entries.pop(job_id, None)
            if entry is not None:
                entry.taken, entry.due = False, until
                self._entries[job_id] = entry

    def answered(self, job_id: int, now: float) -> None:
        """The server has the owner's word."""
        with self._guard:
            self._answered[job_id] = now
            self._entries.pop(job_id, None)

    def state(self, job_id: int) -> State:
        """How an offer is."""
        with self._guard:
            entry = self._entries.get(job_id)
            if entry is None:
                return State.TAKEN if job_id in self._answered else State.GONE
            return State.TAKEN if entry.taken else State.OPEN

    def ids(self) -> list[int]:
        """The jobs whose offers are open here."""
        with self._guard:
            return list(self._entries)

    def _asked(self, now: float) -> list[_Entry]:
        return [one for one in self._entries.values() if one.is_asked and one.waits(now)]
