"""The owner's word on each job: a card at the terminal, and one thread that reads the answer.

Nothing waits for that thread: offers queue, jobs run, polls go on. Before a card is shown,
whatever was typed ahead is thrown away, so that no answer meant for one job lets in another.
"""

from __future__ import annotations

import os
import select
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dtrain.protocol.errors import DTrainError, Refused
from dtrain.protocol.worker_messages import Offer

from .card import card, details
from .config import HOW_TO_ACCEPT
from .console import Console

LATER = 300.0
"""Seconds until an offer that was put off is shown again."""
UNDELIVERED = 10.0
"""Seconds until an offer is shown again whose answer did not get through."""
FOREGROUND_CHECK = 1.0
"""Seconds between two looks whether the agent is in the terminal's foreground."""
PROMPT = "Run this job here? [a]ccept, [d]ecline, [?] details, [l]ater: "
_ANSWERS = {
    **dict.fromkeys(("a", "accept", "y", "yes"), "accept"),
    **dict.fromkeys(("d", "decline", "n", "no"), "decline"),
    **dict.fromkeys(("?", "details"), "details"),
    **dict.fromkeys(("l", "later"), "later"),
}
Decide = Callable[[Offer, bool], None]
"""Tells the server the owner's word; DTrainError says why it could not be done."""


class Queue:
    """The offers that wait for the owner's word. Threads may share it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: dict[int, Offer] = {}
        self._until: dict[int, float] = {}
        self._answered: set[int] = set()

    def update(self, offers: list[Offer]) -> None:
        """Take over all offers that are open now; those missing are withdrawn.

        A list can be older than an answer that was given meanwhile: what has been answered comes
        back only after a list without it.
        """
        with self._guard:
            self._answered &= {offer.job_id for offer in offers}
            news = {offer.job_id: offer for offer in offers if offer.job_id not in self._answered}
            kept = {key: news[key] for key in self._open if key in news}
            self._open = kept | news
            self._until = {key: when for key, when in self._until.items() if key in news}

    def first(self, now: float) -> Offer | None:
        """The offer to show, or None if there is none that has not been put off."""
        with self._guard:
            ready = (offer for offer in self._open.values() if self._due(offer.job_id) <= now)
            return next(ready, None)

    def next_due(self) -> float | None:
        """When, on the clock of `first`, an offer that was put off is due."""
        with self._guard:
            return min(self._until.values(), default=None)

    def put_off(self, job_id: int, until: float) -> None:
        """Show an offer again at some time, after the others."""
        with self._guard:
            if job_id in self._open:
                self._open[job_id] = self._open.pop(job_id)
                self._until[job_id] = until

    def answered(self, job_id: int) -> None:
        """The server has the owner's word."""
        with self._guard:
            self._answered.add(job_id)
            self._open.pop(job_id, None)
            self._until.pop(job_id, None)

    def __contains__(self, job_id: object) -> bool:
        with self._guard:
            return job_id in self._open

    def ids(self) -> list[int]:
        """The jobs whose offers are before the owner."""
        with self._guard:
            return list(self._open)

    def _due(self, job_id: int) -> float:
        return self._until.get(job_id, 0.0)


class Acceptance:
    """The prompt at the terminal.

    Args:
        descriptor: of the terminal that the owner types at.
        console: on the same terminal.
        decide: called on the prompt's own thread with each accepted or declined offer.
    """

    def __init__(self, descriptor: int, console: Console, decide: Decide) -> None:
        self.offers = Queue()
        self.answering = True
        """Whether the owner can still answer."""
        self._descriptor = descriptor
        self._console = console
        self._decide = decide
        self._typed = b""
        self._closed = False
        self._announced: int | None = None
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="acceptance", daemon=True)

    def start(self) -> None:
        """Begin to read the terminal."""
        self._thread.start()

    def update(self, offers: list[Offer]) -> bool:
        """Take over all offers that are open now; whether they are others than before."""
        before = self.offers.ids()
        self.offers.update(offers)
        changed = self.offers.ids() != before
        if changed:
            self._wake()
        return changed

    def close(self) -> None:
        """End the prompt."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._waker, b"\0")

    def _run(self) -> None:
        while self._goes_on():
            offer = self.offers.first(time.monotonic())
            if offer is None:
                self._read_line()
            elif self._in_foreground():
                self._present(offer)
            else:
                self._wait_for_foreground(offer)

    def _goes_on(self) -> bool:
        return self.answering and not self._closed

    def _present(self, offer: Offer) -> None:
        """Show an offer until it is answered, put off or withdrawn."""
        self._throw_away()
        self._console.write(card(offer, self._width()))
        self._console.prompt(PROMPT)
        while self._goes_on():
            line = self._read_line()
            if offer.job_id not in self.offers:
                self._console.prompt("")
                self._console.say(f"Job {offer.job_id} is no longer offered; no answer is needed.")
                return
            if line is not None and self._obey(offer, line):
                return
        self._console.prompt("")

    def _obey(self, offer: Offer, line: str) -> bool:
        """Act on what the owner typed; whether the offer is dealt with."""
        self._console.answered()
        word = _ANSWERS.get(line.strip().lower())
        if word in {"accept", "decline"}:
            self._settle(offer, accept=word == "accept")
            return True
        if word == "later":
            self.offers.put_off(offer.job_id, time.monotonic() + LATER)
            self._console.say(f"Job {offer.job_id} is put off for {LATER / 60:g} minutes.")
            return True
        if word == "details":
            self._console.write(details(offer, self._width()))
        self._console.prompt(PROMPT)
        return False

    def _settle(self, offer: Offer, *, accept: bool) -> None:
        """Pass the owner's word on; what cannot be delivered now is asked again a little later."""
        try:
            self._decide(offer, accept)
        except Refused as error:
            self._console.say(error.detail)
        except DTrainError as error:
            self._console.say(error.detail)
            self.offers.put_off(offer.job_id, time.monotonic() + UNDELIVERED)
            return
        self.offers.answered(offer.job_id)

    def _read_line(self) -> str | None:
        """The next line that the owner types; None if something else happened first."""
        watched = [self._woken, self._descriptor] if self._in_foreground() else [self._woken]
        ready, _, _ = select.select(watched, [], [], self._patience(len(watched)))
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._descriptor in ready and self._in_foreground():
            self._read()
        line, end, rest = self._typed.partition(b"\n")
        if not end:
            return None
        self._typed = rest
        return line.decode(errors="replace")

    def _patience(self, watched: int) -> float | None:
        """Seconds after which there may be something to do without anybody's doing."""
        if watched == 1:
            return FOREGROUND_CHECK
        due = self.offers.next_due()
        return None if due is None else max(0.0, due - time.monotonic())

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:
            data = b""
        self._typed = (self._typed + data)[-4096:]
        if not data:
            self.answering = False
            self._console.answered()
            self._console.say(f"Nobody can be asked any more, so no job starts: {HOW_TO_ACCEPT}")

    def _throw_away(self) -> None:
        """Forget what was typed before there was a question."""
        self._typed = b""
        with suppress(termios.error):
            termios.tcflush(self._descriptor, termios.TCIFLUSH)

    def _in_foreground(self) -> bool:
        """Whether reading would not stop the whole agent, as it does in a shell's background."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return True

    def _wait_for_foreground(self, offer: Offer) -> None:
        if offer.job_id != self._announced:
            self._announced = offer.job_id
            self._console.say(
                f"Job {offer.job_id} waits for your answer; bring the worker to the foreground"
                " of its terminal (fg)."
            )
        self._read_line()

    def _width(self) -> int:
        try:
            columns = os.get_terminal_size(self._descriptor).columns
        except OSError:
            columns = 80
        return max(40, min(columns or 80, 100))
