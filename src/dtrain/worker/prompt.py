"""The prompt: puts offers before the owner at the terminal, one after the other.

One thread of its own; nothing else waits for it. The question stands only after the card has been
in sight for a moment, and what was typed until then is thrown away: no answer that was meant for
one job lets in another.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.messages import BundleContents
from dtrain.protocol.worker_messages import Offer

from . import card
from .console import Console, plain
from .keyboard import ESCAPE, Closed, Keyboard
from .offers import OpenOffers, State
from .patience import Stopped
from .question import (
    Accept,
    Again,
    Decline,
    Details,
    Files,
    Help,
    Later,
    Question,
    Will,
)

log = logging.getLogger(__name__)

IN_SIGHT = 0.5
"""Seconds for which a card is in sight before it can be answered."""
FOREGROUND_CHECK = 1.0
"""Seconds between two looks whether the agent is in the terminal's foreground."""
ESCAPE_TIME = 0.1
"""Seconds within which a key without a sign of its own has sent all of what it sends."""
CLOSE_TIME = 0.5
"""Seconds for the thread to see that the agent ends; it may be telling the server something."""
PAGE = 20
"""Files that are shown at a time."""
END_OF_INPUT = "\x04"
WHOLE = "Run it here{place}? [a]ccept, [d]ecline, [l]ater, [f]iles, [?] details: "
SHORT = "Run it{place}? a, d, l, f, ?: "
REASON = "Reason (Enter for none): "

Settle = Callable[[Offer, bool, str | None], str | None]
"""Tells the server the owner's word; a sentence says why that could not be done."""


class Prompt:
    """The prompt at a terminal.

    Args:
        keyboard: of the terminal that the owner types at.
        console: on the same terminal.
        offers: what there is to ask.
        settle: called on the prompt's own thread.
        fetch: brings what is in the bundle of an offered job; DTrainError if it cannot.
        on_end: called when nobody can be asked here any more.
    """

    def __init__(
        self,
        keyboard: Keyboard,
        console: Console,
        offers: OpenOffers,
        settle: Settle,
        fetch: Callable[[int], BundleContents],
        on_end: Callable[[], None],
    ) -> None:
        self.is_open = True
        """Whether the owner can answer here."""
        self._keyboard = keyboard
        self._console = console
        self._offers = offers
        self._settle = settle
        self._fetch = fetch
        self._on_end = on_end
        self._announced: int | None = None
        self._is_continued = False
        """Whether the agent was stopped by job control, and goes on."""
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="prompt", daemon=True)

    def start(self) -> None:
        """Begin to ask. From the main thread: it also minds the signals of job control."""
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._stop)
        signal.signal(signal.SIGCONT, self._go_on)
        self._thread.start()

    def wake(self) -> None:
        """The offers have changed."""
        with suppress(BlockingIOError):
            os.write(self._waker, b"\0")

    def close(self) -> None:
        """Give the terminal back for good."""
        self.is_open = False
        self._keyboard.release(for_good=True)
        self.wake()
        if self._thread.is_alive():
            self._thread.join(CLOSE_TIME)
        self._console.prompt("")

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Be stopped by job control, with the terminal as it was found."""
        with self._keyboard.released():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            signal.signal(number, self._stop)

    def _go_on(self, _number: int, _frame: FrameType | None) -> None:
        self._is_continued = True
        self.wake()

    def _run(self) -> None:
        try:
            while self.is_open:
                offer = self._offers.to_ask(time.monotonic())
                if offer is None:
                    self._wait(None)
                elif self._keyboard.in_foreground():
                    self._present(offer)
                else:
                    self._wait_for_foreground(offer)
        except Stopped:
            pass
        except Closed:
            self._console.answered()
            self.is_open = False
            self._on_end()
        except Exception:  # the thread's last line of defence: nobody is asked without it
            log.exception("The prompt has failed.")
            self.is_open = False
            self._on_end()
        finally:
            self._keyboard.release()

    def _present(self, offer: Offer) -> None:
        """Show an offer until it is answered, put off or withdrawn."""
        self._keyboard.hold()
        shown = card.card(offer, self._width(), is_plain=self._console.is_plain)
        if not self._console.write(shown):
            raise Closed  # what cannot be shown must not be accepted
        if self._stays_in_sight(offer):
            self._keyboard.hold()
            self._ask(offer)
        self._keyboard.release()

    def _stays_in_sight(self, offer: Offer) -> bool:
        until = time.monotonic() + IN_SIGHT
        while self.is_open and not self._is_over(offer):
            if time.monotonic() >= until:
                return True
            self._wait(until)
        return False

    def _ask(self, offer: Offer) -> None:
        question = Question()
        listing = _Listing(self._fetch, offer.job_id)
        keys: list[str] = []
        while self.is_open:
            self._draw(offer, question)
            if self._has_returned():
                question.forget()
                continue
            keys = keys or self._keys(question.acts_at)
            if not self.is_open or self._is_over(offer):
                return
            will, keys = _heard(question, keys)
            if will is not None and self._obey(offer, will, question, listing):
                return

    def _is_over(self, offer: Offer) -> bool:
        """Whether an offer needs no answer any more; the owner is told."""
        state = self._offers.state(offer.job_id)
        if state is State.OPEN:
            return False
        self._console.prompt("")
        if state is State.GONE:
            self._console.say(f"Job {offer.job_id} is no longer offered; no answer is needed.")
        return True

    def _obey(self, offer: Offer, will: Will, question: Question, listing: _Listing) -> bool:
        """Do what the owner wants; whether the offer is dealt with."""
        if will != Again() or not question.asks_reason or self._console.is_dumb:
            self._console.answered()
        match will:
            case Accept():
                self._tell(offer, accept=True)
            case Decline(reason):
                self._tell(offer, accept=False, reason=reason)
            case Later(seconds):
                self._offers.put_off(offer.job_id, time.monotonic() + seconds)
                again = f"you are asked again in {card.duration(seconds)}"
                self._console.say(f"Job {offer.job_id} is put off; {again}.")
            case Details():
                self._console.write(card.details(offer, self._width()))
                return False
            case Files():
                self._console.write(listing.next_page(self._width()))
                return False
            case Help(text):
                self._console.write(f"{text}\n")
                return False
            case Again():
                return False
        return True

    def _tell(self, offer: Offer, *, accept: bool, reason: str | None = None) -> None:
        """Pass the owner's word on, unless another word on the offer was faster."""
        self._keyboard.release()
        if self._offers.take(offer.job_id) is None:
            self._is_over(offer)
            return
        complaint = self._settle(offer, accept, reason)
        if complaint is not None:
            self._console.say(complaint)
        elif not accept:
            self._console.say(f"Job {offer.job_id} is declined.")

    def _draw(self, offer: Offer, question: Question) -> None:
        """Put the question on the screen, with what was typed behind it."""
        columns = self._columns() - 1
        number, total = self._offers.place(offer.job_id, time.monotonic())
        place = f" ({number} of {total})" if total > 1 else ""
        label = REASON if question.asks_reason else WHOLE.format(place=place)
        if len(label) + 8 > columns and not question.asks_reason:
            label = SHORT.format(place=place)
        typed = card.end_of(plain(question.typed), max(columns - len(label), 1))
        self._console.prompt(label if self._console.is_dumb else label + typed)

    def _has_returned(self) -> bool:
        """Whether the agent has come back to the foreground, and has the keyboard again."""
        keyboard = self._keyboard
        if not keyboard.in_foreground() or (keyboard.is_held and not self._is_continued):
            return False
        self._is_continued = False
        keyboard.hold()
        self._console.write("")  # the shell has written where the question stood
        return keyboard.is_held

    def _keys(self, until: float | None) -> list[str]:
        """The keys that were pressed; none if something else happened, or the time has come.

        Raises:
            Closed: nobody can type any more.
        """
        keyboard = self._keyboard
        is_front = keyboard.in_foreground()
        if not is_front:
            until = time.monotonic() + FOREGROUND_CHECK
        elif keyboard.is_unsure:
            until = time.monotonic() + ESCAPE_TIME
        ready = self._wait(until, [keyboard.descriptor] if is_front else [])
        if keyboard.descriptor in ready and keyboard.in_foreground():
            return keyboard.read()
        return [ESCAPE] if is_front and not ready and keyboard.lone_escape() else []

    def _wait(self, until: float | None, watched: Sequence[int] = ()) -> list[int]:
        """Wait until a time, or until the offers change or one is due; what is ready to be read."""
        now = time.monotonic()
        times = [at for at in (until, self._offers.next_due(now)) if at is not None]
        patience = max(min(times) - now, 0.0) if times else None
        ready, _, _ = select.select([self._woken, *watched], [], [], patience)
        if self._woken in ready:
            with suppress(BlockingIOError):
                os.read(self._woken, 4096)
        return ready

    def _wait_for_foreground(self, offer: Offer) -> None:
        if offer.job_id != self._announced:
            self._announced = offer.job_id
            self._console.say(
                f"Job {offer.job_id} waits for your answer; bring the worker to the foreground"
                " of its terminal (fg)."
            )
        self._wait(time.monotonic() + FOREGROUND_CHECK)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._keyboard.descriptor).columns or 80
        except OSError:
            return 80

    def _width(self) -> int:
        """Of a card."""
        return max(40, min(self._columns(), 100))


class _Listing:
    """The files of an offered bundle, some at a time."""

    def __init__(self, fetch: Callable[[int], BundleContents], job_id: int) -> None:
        self._fetch = fetch
        self._job_id = job_id
        self._contents: BundleContents | None = None
        self._shown = 0

    def next_page(self, width: int) -> str:
        """The next files, as text; after the last the first again."""
        try:
            contents = self._contents = self._contents or self._fetch(self._job_id)
        except DTrainError as error:
            return f"{plain(error.detail)}\n"
        total = len(contents.files)
        first = self._shown if self._shown < total else 0
        page = contents.files[first : first + PAGE]
        self._shown = first + len(page)
        size = card.size(contents.expanded)
        head = f"Files {first + 1:,} to {self._shown:,} of {total:,}; {size} unpacked:\n"
        more = f"f: {min(PAGE, total - self._shown)} more\n" if self._shown < total else ""
        return f"{head}{card.files(page, width)}{more}"


def _heard(question: Question, keys: list[str]) -> tuple[Will | None, list[str]]:
    """What the owner wants by the keys that were pressed, and the keys that are still to be heard.

    Keys behind an answer belong to no question; behind a no they are its reason.
    """
    for number, key in enumerate(keys, 1):
        if key == END_OF_INPUT and not question.typed:
            raise Closed
        will = question.press(key, time.monotonic())
        if will is not None:
            goes_on = will == Again() and question.asks_reason
            return will, keys[number:] if goes_on else []
    return question.pause(time.monotonic()), []
