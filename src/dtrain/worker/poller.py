"""The thread that joins the server and polls it: heartbeat, report and question in one."""

from __future__ import annotations

import logging
import platform
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dtrain import __version__
from dtrain.protocol.errors import DTrainError, Refused, Unauthorized
from dtrain.protocol.worker_messages import (
    PROTOCOL,
    Assignment,
    Offer,
    OfferReply,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

from .attempts import Attempts
from .config import Config
from .console import Console, Trouble
from .inventory import Inventory, boot_id
from .link import Link, Stopped, Superseded
from .spool import Identity, WorkerFolder

if TYPE_CHECKING:
    from .acceptance import Acceptance

log = logging.getLogger(__name__)

LONGEST_WAIT = 10.0
"""Seconds for which a poll asks to be held at most."""
REFUSED_PAUSE = 10.0
"""Seconds after a poll that was refused, or that brought what could not be taken."""
EARLY_PAUSE = 1.0
"""Seconds, at most, after an answer that came before its time and brought nothing."""
UNSUPERVISED = 200.0
"""Seconds without an answer after which jobs that must not run unsupervised are ended: with the
slowest of failures and the grace on top it is less than the 300 s after which a server gives an
attempt up."""


class Poller:
    """A session of this worker with its server.

    Args:
        config: the owner's settings.
        folder: knows who the worker is.
        link: to the server; gets the worker's credential.
        inventory: says what there is and how busy it is.
        attempts: that run here.
        console: for what happens.
        trouble: told of what keeps the worker from joining.
        on_failure: called with what ends the session for good; nothing is polled after that.
    """

    def __init__(
        self,
        config: Config,
        folder: WorkerFolder,
        link: Link,
        inventory: Inventory,
        attempts: Attempts,
        console: Console,
        trouble: Trouble,
        on_failure: Callable[[DTrainError], None],
    ) -> None:
        self.session: int | None = None
        """The number of the session; None before the worker has joined, and after its last."""
        self.draining = False
        """Whether nothing new is taken."""
        self.acceptance: Acceptance | None = None
        """Where the owner is asked; None if jobs start without a question."""
        self._config = config
        self._folder = folder
        self._link = link
        self._inventory = inventory
        self._attempts = attempts
        self._console = console
        self._trouble = trouble
        self._on_failure = on_failure
        self._number = 0
        self._answered_at = time.monotonic()
        self._drained = False
        """Whether the server wants nothing new to be taken."""
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def start(self) -> None:
        """Join the server, and poll it until the link is stopped."""
        self._thread.start()

    def decide(self, offer: Offer, accept: bool) -> None:
        """Tell the server the owner's word on an offer; an accepted job starts.

        Raises:
            DTrainError: the offer is gone, or the server cannot be reached.
        """
        if self.session is None:
            return
        secret = self._folder.next_secret()
        reply = OfferReply(session=self.session, accept=accept, secret=secret)
        answer = self._link.answer_offer(offer.job_id, reply)
        if answer.assignment is not None:
            self._attempts.begin(answer.assignment, secret)

    def _run(self) -> None:
        try:
            self._join()
            while True:
                try:
                    self._poll()
                except Unauthorized:
                    self._join_anew()
        except Stopped:
            pass
        except Superseded as error:
            self.session = None
            self._on_failure(error)
        except DTrainError as error:
            self._on_failure(error)
        except Exception as error:  # the thread's last line of defence: without it nothing is said
            log.exception("Polling has failed.")
            self._on_failure(DTrainError(f"The worker failed ({error!r}); start it again."))

    def _join(self) -> None:
        """Register, by the worker's own credential if it has one that the server knows."""
        identity = self._folder.load_identity()
        registered = None
        if identity is not None:
            try:
                registered = self._register(identity.worker_id, identity.credential)
            except Unauthorized:
                self._folder.forget_identity()
        if registered is None:
            registered = self._register(None, self._config.token)
        if registered.credential is not None:
            identity = Identity(worker_id=registered.worker_id, credential=registered.credential)
            self._folder.save_identity(identity)
        if identity is not None:
            self._link.credential = identity.credential
        self.session = registered.session
        self._number = 0
        self._console.say(f"Joined {self._config.server_url} as {self._config.worker_name}.")

    def _register(self, worker_id: str | None, token: str) -> Registered:
        message = Register(
            protocol=PROTOCOL,
            version=__version__,
            name=self._config.worker_name,
            hostname=platform.node()[:255],
            worker_id=worker_id,
            boot_id=boot_id(),
            capacity=self._inventory.capacity,
            asks=self.acceptance is not None,
        )
        try:
            return self._link.register(message, token)
        except Unauthorized as error:
            if worker_id is not None:
                raise
            raise Unauthorized(
                f"{self._config.server_url} refuses the worker's token; set token in config.json,"
                " or DTRAIN_WORKER_TOKEN, to the one that the server prints when it starts."
            ) from error

    def _join_anew(self) -> None:
        """Enrol once more with a server that has forgotten this worker; jobs run on meanwhile."""
        self._console.say("The server does not know this worker any more; it enrols anew.")
        while True:
            try:
                self._join()
            except Unauthorized as error:
                self._trouble(error)
                self._link.pause(REFUSED_PAUSE)
            else:
                return

    def _poll(self) -> None:
        secret, is_kept = self._next_secret()
        wait = min(self._config.poll_interval, LONGEST_WAIT)
        started = time.monotonic()
        try:
            answer = self._link.poll(lambda: self._composed(secret, wait, takes=is_kept))
        except (Unauthorized, Superseded):
            raise
        except Refused as error:
            if error.code == "version":
                raise
            self._trouble(error)
            self._link.pause(REFUSED_PAUSE)
            return
        self._answered_at = time.monotonic()
        rest = wait - (self._answered_at - started)
        if not self._take(answer, secret) and rest > 0:
            self._link.pause(min(rest, EARLY_PAUSE) * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def _next_secret(self) -> tuple[str, bool]:
        """The secret for a poll, and whether it is kept; one that is not must bring nothing."""
        try:
            return self._folder.next_secret(), True
        except OSError as error:
            log.warning("No job can be taken: %s cannot be written (%s).", self._folder.path, error)
            return secrets.token_urlsafe(32), False

    def _composed(self, secret: str, wait: float, *, takes: bool) -> Poll:
        """What to say in a try of a poll, by how things are now."""
        if time.monotonic() > self._answered_at + UNSUPERVISED:
            self._attempts.stop_the_unsupervised()
        self._number += 1
        acceptance = self.acceptance
        return Poll(
            session=self.session or 0,
            number=self._number,
            wait=wait,
            capacity=self._inventory.capacity,
            metrics=self._inventory.metrics(),
            attempts=self._attempts.reports(),
            next_secret=secret,
            asks=acceptance is not None,
            offers=[] if acceptance is None else acceptance.offers.ids(),
            draining=self.draining or not takes or not (acceptance is None or acceptance.answering),
        )

    def _take(self, answer: PollAnswer, secret: str) -> bool:
        """Act on an answer; whether there was anything to act on."""
        for command in answer.commands:
            self._attempts.obey(command)
        if answer.assignment is not None and not self.draining:
            self._begin(answer.assignment, secret)
        changed = answer.drain != self._drained
        if changed:
            self._drained = answer.drain
            takes = "takes no new jobs until it is resumed" if answer.drain else "takes jobs again"
            self._console.say(f"The server says that this worker {takes}.")
        if self.acceptance is not None:
            changed = self.acceptance.update(answer.offers) or changed
        return changed or bool(answer.commands) or answer.assignment is not None

    def _begin(self, assignment: Assignment, secret: str) -> None:
        try:
            self._attempts.begin(assignment, secret)
        except (DTrainError, OSError) as error:
            self._console.say(f"Job {assignment.job_id} cannot be taken: {error}")
            self._link.pause(REFUSED_PAUSE)
