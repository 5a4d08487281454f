"""The owner's word on each job that is offered: by rule, at the terminal, or on the worker's page.

Whoever is first to take an offer decides it, and nobody else. Rules and answers from the page are
seen to by a thread of their own, the terminal by that of the prompt; polls and jobs wait for
neither.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from dtrain.protocol import consent
from dtrain.protocol.errors import DTrainError
from dtrain.protocol.states import Outcome
from dtrain.protocol.worker_messages import AnswerOutcome, Offer, PageAnswer, PollAnswer

from .config import HOW_TO_ACCEPT, Config
from .console import Console
from .keyboard import Keyboard
from .link import Link
from .offers import OpenOffers
from .owner_code import OwnerCode
from .patience import Stopped
from .policy import Verdict, Word, judge
from .prompt import Prompt

log = logging.getLogger(__name__)

UNDELIVERED = 10.0
"""Seconds until an offer is decided again on which the word did not get through."""
BY_RULE = "by the owner's rules"
"""The reason that is given for what a rule declines."""
MAX_ASKED = 20
"""Offers that are wanted at a time where a person decides each."""
MAX_JUDGED = 100
"""The same where rules decide: they must see what stands behind the jobs that nobody answers."""
_REMEMBERED = 1000
"""Answers from the page whose repetition is noticed."""

Decide = Callable[[Offer, bool, str | None], None]
"""Tells the server the owner's word; DTrainError says why it could not be done."""


class Acceptance:
    """All that decides offers on this worker.

    Args:
        config: with the owner's rules.
        console: for what happens.
        link: to the server.
        decide: called with each word on an offer, on a thread that may wait.
        has_room: whether another job may start now.
        keyboard: of the terminal at which the owner is asked; None if there is none.
        code: the owner's code; None if nothing is answered on the worker's page.
    """

    def __init__(
        self,
        config: Config,
        console: Console,
        link: Link,
        decide: Decide,
        has_room: Callable[[], bool],
        *,
        keyboard: Keyboard | None,
        code: OwnerCode | None,
    ) -> None:
        has_rules = bool(config.accept_when or config.decline_when)
        self.max_offers = MAX_JUDGED if has_rules else MAX_ASKED
        self._accepts_by_rule = bool(config.accept_when or config.auto_accept_jobs)
        self.offers = OpenOffers(
            partial(
                judge,
                accept_when=config.accept_when,
                decline_when=config.decline_when,
                otherwise=Word.ACCEPT if config.auto_accept_jobs else Word.ASK,
            )
        )
        self._server_url = config.server_url
        self._console = console
        self._link = link
        self._decide = decide
        self._has_room = has_room
        self._code = code
        self._page = ""
        self._prompt: Prompt | None = None
        if keyboard is not None:
            self._prompt = Prompt(
                keyboard,
                console,
                self.offers,
                self._settle,
                link.offer_files,
                self._nobody_at_terminal,
            )
        self._changed = threading.Condition()
        self._answers: deque[PageAnswer] = deque()
        self._busy: set[str] = set()
        self._seen: dict[str, None] = {}
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="acceptance", daemon=True)

    @property
    def on_page(self) -> bool:
        """Whether offers can be answered on the worker's page."""
        return self._code is not None

    @property
    def answering(self) -> bool:
        """Whether there is any way in which a job may start."""
        at_terminal = self._prompt is not None and self._prompt.is_open
        return self.on_page or self._accepts_by_rule or at_terminal

    def page_answers(self) -> list[str]:
        """The answers from the page that are being seen to."""
        with self._changed:
            return list(self._busy)

    def start(self) -> None:
        """Begin to decide. From the main thread."""
        self._thread.start()
        if self._prompt is not None:
            self._prompt.start()

    def joined(self, worker_id: str) -> None:
        """The server knows this worker by an id; the owner is told where to answer."""
        if self._code is None:
            return
        self._code.belong_to(worker_id)
        page = f"{self._server_url}/workers/{worker_id}"
        if page != self._page:
            self._page = page
            code = consent.shown(self._code.code)
            self._console.say(f"Offers can be answered on {page} with the owner's code {code}.")

    def update(self, answer: PollAnswer, asked_at: float) -> bool:
        """Take over what a poll brought; whether there was any news in it.

        Args:
            answer: of the server.
            asked_at: when it was asked, on the monotonic clock.
        """
        changed = self.offers.update(answer.offers, asked_at)
        with self._changed:
            for given in answer.answers if self.on_page else ():
                if given.id not in self._seen:
                    self._seen[given.id] = None
                    self._busy.add(given.id)
                    self._answers.append(given)
                    changed = True
            while len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._changed.notify()
        if changed and self._prompt is not None:
            self._prompt.wake()
        return changed

    def close(self) -> None:
        """End it; the terminal is as it was found."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._prompt is not None:
            self._prompt.close()

    def _nobody_at_terminal(self) -> None:
        if self.on_page:
            instead = f"answer on {self._page or 'its page'}, or start the worker in a terminal."
            self._console.say(f"Nobody can be asked here any more: {instead}")
        else:
            what = "only what a rule accepts starts" if self._accepts_by_rule else "no job starts"
            self._console.say(f"Nobody can be asked any more, so {what}: {HOW_TO_ACCEPT}")

    def _run(self) -> None:
        try:
            while not self._is_closed:
                answer = self._next_answer()
                ruled = self._ruled()
                if answer is not None:
                    self._see_to(answer)
                elif ruled is not None:
                    self._apply(*ruled)
        except Stopped:
            pass
        except Exception:  # the thread's last line of defence: without it nothing is said
            log.exception("Rules and answers from the page are not seen to any more.")

    def _next_answer(self) -> PageAnswer | None:
        """The next answer from the page; waits for one, unless a rule has something to decide."""
        with self._changed:
            if not self._answers and not self._is_closed and self._ruled() is None:
                now = time.monotonic()
                due = self.offers.next_due(now)
                self._changed.wait(None if due is None else due - now)
            return self._answers.popleft() if self._answers else None

    def _ruled(self) -> tuple[Offer, Verdict] | None:
        return self.offers.ruled(time.monotonic(), has_room=self._has_room())

    def _apply(self, offer: Offer, verdict: Verdict) -> None:
        """Do what a rule says."""
        if self.offers.take(offer.job_id) is None:
            return
        accept = verdict.word is Word.ACCEPT
        what = "starts unasked" if accept else "is declined"
        sender = f", from {offer.submitter}" if offer.submitter else ""
        name = f"Job {offer.job_id} ({offer.spec.name}{sender})"
        by = f" by the rule {verdict.rule}" if verdict.rule else ""
        self._console.say(f"{name} {what}{by}.")
        complaint = self._settle(offer, accept, None if accept else BY_RULE)
        if complaint is not None:
            self._console.say(complaint)

    def _see_to(self, answer: PageAnswer) -> None:
        """Find out whether an answer from the page is the owner's, act on it, and say so."""
        outcome = self._acted_on(answer)
        try:
            self._link.settle_answer(answer.id, outcome)
        except DTrainError as error:
            log.warning("The page was not told of job %d: %s", answer.job_id, error.detail)
        finally:
            with self._changed:
                self._busy.discard(answer.id)

    def _acted_on(self, answer: PageAnswer) -> AnswerOutcome:
        assert self._code is not None  # noqa: S101 - else nothing is taken from the page
        wrong = self._code.complaint_of(answer)
        if wrong is Outcome.WRONG_CODE:
            self._console.say(
                f"Somebody has tried to answer for job {answer.job_id} on the worker's page,"
                " with a wrong code."
            )
        if wrong is not None:
            return AnswerOutcome(outcome=wrong)
        offer = self.offers.take(answer.job_id)
        if offer is None:
            detail = f"Job {answer.job_id} is not before this worker's owner any more."
            return AnswerOutcome(outcome=Outcome.REFUSED, detail=detail)
        word = "accepted" if answer.accept else "declined"
        self._console.say(f"Job {answer.job_id} is {word} on the worker's page.")
        if self._prompt is not None:
            self._prompt.wake()
        complaint = self._settle(offer, answer.accept, answer.reason)
        if complaint is not None:
            self._console.say(complaint)
            return AnswerOutcome(outcome=Outcome.REFUSED, detail=complaint)
        return AnswerOutcome(outcome=Outcome.DONE)

    def _settle(self, offer: Offer, accept: bool, reason: str | None) -> str | None:
        """Pass on the owner's word on an offer that was taken; a sentence if that failed.

        Such an offer is decided again a little later, unless it is withdrawn until then.
        """
        try:
            self._decide(offer, accept, reason)
        except DTrainError as error:
            self.offers.put_off(offer.job_id, time.monotonic() + UNDELIVERED)
            return error.detail
        self.offers.answered(offer.job_id, time.monotonic())
        return None
