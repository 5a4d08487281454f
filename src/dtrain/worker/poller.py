"""The thread that joins the server and polls it: heartbeat, report and question in one."""

from __future__ import annotations

import logging
import platform
import random
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from dtrain import __version__
from dtrain.protocol.errors import Conflict, DTrainError, Refused, Unauthorized
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
from .link import Link
from .patience import Fault, Stopped, Superseded
from .records import Identity
from .shortage import PASSING
from .spool import WorkerFolder
from .supervision import since_boot

if TYPE_CHECKING:
    from .acceptance import Acceptance

log = logging.getLogger(__name__)

LONGEST_WAIT = 10.0
"""Seconds for which a poll asks to be held at most."""
REFUSED_PAUSE = 10.0
"""Seconds after a poll that was refused, or that brought what could not be taken."""
EARLY_PAUSE = 1.0
"""Seconds, at most, after an answer that came before its time and brought nothing."""
OVERTAKEN = 120.0
"""Seconds after a registration that was repeated in which its own first try, coming late, can be
what supersedes it."""
REMEMBERED = 10
"""Jobs that the owner said yes to, whose claim may still be on its way."""


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
        self._stuck: str | None = None
        self._config = config
        self._folder = folder
        self._link = link
        self._inventory = inventory
        self._attempts = attempts
        self._console = console
        self._trouble = trouble
        self._on_failure = on_failure
        self._number = 0
        self._doubtful_until = 0.0
        """Until when another session of this worker is rather this agent's own, begun by a try of
        its registration that came late."""
        self._drained = False
        """Whether the server wants nothing new to be taken."""
        self._asked_at = 0.0
        """When the latest poll was sent, by the monotonic clock."""
        self._asked_since_boot = 0.0
        """The same in seconds since the machine's start."""
        self._agreed: dict[str, Offer] = {}
        """What the owner said yes to lately, by the secret that went with it."""
        self._accepting = threading.Lock()
        """One yes at a time: each needs the next secret for its own."""
        self._thread = threading.Thread(target=self._run, name="poll", daemon=True)

    def start(self) -> None:
        """Join the server, and poll it until the link is stopped."""
        self._thread.start()

    @property
    def taking_session(self) -> int | None:
        """The session, while jobs are taken that nobody is asked about; else None."""
        takes_none = self.draining or self._drained or self._stuck or self.acceptance is not None
        return None if takes_none else self.session

    def decide(self, offer: Offer, accept: bool, reason: str | None) -> None:
        """Tell the server the owner's word on an offer; an accepted job starts.

        Raises:
            DTrainError: the offer is gone, or the server cannot be reached.
        """
        session = self.session
        if session is None:
            return
        try:
            if accept:
                self._accept(session, offer)
            else:
                secret = self._folder.secrets.next()
                no = OfferReply(session=session, accept=False, secret=secret, reason=reason)
                self._link.answer_offer(offer.job_id, no)
        except OSError as error:
            raise DTrainError(f"Job {offer.job_id} cannot be taken: {error}") from error

    def _accept(self, session: int, offer: Offer) -> None:
        with self._accepting:
            secret = self._folder.secrets.next()
            yes = OfferReply(session=session, accept=True, secret=secret)
            # Before it is sent: the claim may come back with a poll as well.
            self._agreed = dict(list(self._agreed.items())[-REMEMBERED:]) | {secret: offer}
            asked = since_boot()
            try:
                answer = self._link.answer_offer(offer.job_id, yes)
            except Refused:
                self._agreed.pop(secret, None)
                raise
            if answer.assignment is not None:
                try:
                    self._begin_agreed(answer.assignment, secret, asked)
                except OSError:
                    self._folder.secrets.forget(secret)
                    raise

    def _run(self) -> None:
        try:
            self._join()
            while True:
                try:
                    self._poll()
                except Unauthorized:
                    self._join_anew()
                except Superseded:
                    if time.monotonic() > self._doubtful_until:
                        raise
                    self._join()
                except OSError as error:
                    if error.errno not in PASSING:
                        raise
                    self._trouble(DTrainError(f"This machine is short of something ({error})."))
                    self._link.pause(REFUSED_PAUSE)
        except Stopped:
            pass
        except Superseded as error:
            self.session = None
            self._on_failure(error)
        except DTrainError as error:
            self._on_failure(error)
        except Exception as error:  # the thread's last line of defence: without it nothing is said
            log.exception("Polling has failed.")
            self._on_failure(Fault(f"The worker failed ({error!r}); start it again."))

    def _join(self) -> None:
        """Register, by the worker's own credential if it has one that the server knows."""
        identity = self._folder.load_identity()
        registered = None
        if identity is not None:
            with suppress(Unauthorized):
                registered = self._register(identity.worker_id, identity.credential)
        if identity is None or registered is None:
            credential = self._folder.next_credential()
            registered = self._enrol(credential)
            identity = Identity(worker_id=registered.worker_id, credential=credential)
            self._folder.save_identity(identity)
        self._link.credential = identity.credential
        self.session = registered.session
        self._number = 0
        self._console.say(f"Joined {self._config.server_url} as {self._config.worker_name}.")
        if self.acceptance is not None:
            self.acceptance.joined(registered.worker_id)

    def _enrol(self, credential: str) -> Registered:
        """Register by the shared token; the credential is what the worker shows from then on."""
        try:
            return self._register(None, self._config.token, credential)
        except Unauthorized as error:
            raise Unauthorized(
                f"{self._config.server_url} refuses the worker's token; set token in config.json,"
                " or DTRAIN_WORKER_TOKEN, to the one that the server prints when it starts."
            ) from error

    def _register(
        self, worker_id: str | None, token: str, credential: str | None = None
    ) -> Registered:
        message = Register(
            protocol=PROTOCOL,
            version=__version__,
            name=self._config.worker_name,
            hostname=platform.node()[:255],
            worker_id=worker_id,
            boot_id=boot_id(),
            capacity=self._inventory.capacity,
            asks=self.acceptance is not None,
            credential=credential,
        )
        registered, is_doubtful = self._link.register(message, token)
        self._doubtful_until = time.monotonic() + OVERTAKEN if is_doubtful else 0.0
        return registered

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
        # Not always the same, or a fleet that comes back with the server would go on in step.
        wait = min(self._config.poll_interval, LONGEST_WAIT) * random.uniform(0.8, 1)  # noqa: S311
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
        self._attempts.note_answer()
        rest = wait - (time.monotonic() - started)
        if not self._take(answer, secret) and rest > 0:
            self._link.pause(min(rest, EARLY_PAUSE) * random.uniform(0.5, 1))  # noqa: S311 - jitter

    def _next_secret(self) -> tuple[str, bool]:
        """The secret for a poll, and whether it is kept; one that is not must bring nothing."""
        try:
            return self._folder.secrets.next(), True
        except OSError as error:
            log.warning("No job can be taken: %s cannot be written (%s).", self._folder.path, error)
            return secrets.token_urlsafe(32), False

    def _composed(self, secret: str, wait: float, *, takes: bool) -> Poll:
        """What to say in a try of a poll, by how things are now."""
        self._number += 1
        self._asked_at, self._asked_since_boot = time.monotonic(), since_boot()
        acceptance, metrics = self.acceptance, self._inventory.metrics()
        return Poll(
            session=self.session or 0,
            number=self._number,
            wait=wait,
            capacity=self._inventory.capacity,
            metrics=metrics,
            attempts=self._attempts.reports(metrics.gpus),
            next_secret=secret,
            asks=acceptance is not None,
            offers=[] if acceptance is None else acceptance.offers.ids(),
            draining=self.draining
            or self._is_stuck()
            or not takes
            or not (acceptance is None or acceptance.answering),
            max_offers=1 if acceptance is None else acceptance.max_offers,
            answer_on_page=acceptance is not None and acceptance.on_page,
            answers=[] if acceptance is None else acceptance.page_answers(),
        )

    def _is_stuck(self) -> bool:
        """Whether something cannot be killed: it holds what another job would need."""
        stuck = self._attempts.stuck()
        if stuck != self._stuck:
            self._stuck = stuck
            if stuck:
                self._console.say(f"{stuck} Until it ends, no new job is taken.")
            else:
                self._console.say("All that was killed has ended; jobs are taken again.")
        return stuck is not None

    def _take(self, answer: PollAnswer, secret: str) -> bool:
        """Act on an answer; whether there was anything to act on."""
        for command in answer.commands:
            self._attempts.obey(command)
        if answer.secret_spent:
            self._folder.secrets.forget(secret)
        if answer.assignment is not None and not self.draining:
            self._begin(answer.assignment, secret)
        changed = answer.drain != self._drained
        if changed:
            self._drained = answer.drain
            takes = "takes no new jobs until it is resumed" if answer.drain else "takes jobs again"
            self._console.say(f"The server says that this worker {takes}.")
        if self.acceptance is not None:
            changed = self.acceptance.update(answer, self._asked_at) or changed
        return (
            changed or answer.secret_spent or bool(answer.commands) or answer.assignment is not None
        )

    def _begin(self, assignment: Assignment, secret: str) -> None:
        try:
            if self.acceptance is None:
                self._attempts.begin(assignment, secret, self._asked_since_boot)
            else:
                self._begin_agreed(assignment, secret, self._asked_since_boot)
        except (DTrainError, OSError) as error:
            self._console.say(f"Job {assignment.job_id} cannot be taken: {error}")
            # With another one in the next poll the server knows that nothing came of this.
            self._folder.secrets.forget(secret)
            self._link.pause(REFUSED_PAUSE)

    def _begin_agreed(self, assignment: Assignment, secret: str, asked: float) -> None:
        """Start what the owner has said yes to, and nothing else, whatever the server says.

        Raises:
            DTrainError: the owner was not shown this; the server gives the job to somebody else.
        """
        offer = self._agreed.get(secret)
        if offer is None or not _is_the_same(offer, assignment):
            self._folder.secrets.forget(secret)
            raise Conflict(
                f"Job {assignment.job_id} came without its owner's consent to just this; it does"
                " not start.",
                code="no_consent",
            )
        self._attempts.begin(assignment, secret, asked)


def _is_the_same(offer: Offer, assignment: Assignment) -> bool:
    return (offer.job_id, offer.spec, offer.bundle) == (
        assignment.job_id,
        assignment.spec,
        assignment.bundle,
    )
