"""Brings what a job has in its checkpoint folder to the server, while it runs and when it ends.

A thread looks at the folder every second. When the files have changed, and the last generation was
begun long enough ago, it takes a snapshot of them (`snapshot`), sends the contents that the server
lacks, and has the whole kept as the next generation. What has changed meanwhile waits for the
generation after that: one is on its way at a time, and none is queued. A generation that cannot be
sent is given up, and the next look begins with what is newest then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from dtrain.protocol.checkpoints import MOST_FILES
from dtrain.protocol.errors import DTrainError, NotFound, Refused, Unavailable
from dtrain.protocol.worker_messages import CheckpointFileInfo, Generation

from . import layout
from .console import plain
from .link import AttemptRef, Link
from .patience import (
    CHECKPOINT,
    LAST_CHECKPOINT,
    Patience,
    StaleAttempt,
    Stopped,
    Superseded,
)
from .shortage import starting_thread
from .snapshot import Changing, Look, Snapshots
from .spool import AttemptFolder

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two looks at the folder, at least."""
SHARE = 20
"""So many times as long as a look has taken lie between two of them, at least."""
FAILED_PAUSE = 10.0
"""Seconds until the next try after one that the server or a disk did not let succeed."""
CHANGING = 300.0
"""Seconds after which the worker's log is told that the files are never whole."""
TRIES = 3
"""How often a generation is handed over; the first time tells what has to be sent before."""
MOST_SAID = 20


class GivenUp(Exception):
    """The generation under way is not wanted any more."""


class Checkpoints:
    """The checkpoint folder of one attempt on its way.

    Args:
        folder: of the attempt.
        link: to the server.
        ref: the attempt.
        interval: seconds between the beginnings of two generations, at least.
        on_stale: called when the server says that the attempt no longer counts.
    """

    def __init__(
        self,
        folder: AttemptFolder,
        link: Link,
        ref: AttemptRef,
        interval: float,
        on_stale: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._link = link
        self._ref = ref
        self._interval = interval
        self._on_stale = on_stale
        self._snapshots = Snapshots(folder.checkpoints, folder.path / layout.SNAPSHOT, self._check)
        self._ended = threading.Event()
        self._is_unwanted: Callable[[], bool] = self._ended.is_set
        self._sent: Look = {}
        """What the newest generation was taken of."""
        self._newest: int | None = None
        """The number of the newest generation; None before the server was asked."""
        self._limit = 0
        """Bytes that the server takes of one."""
        self._said: set[str] = set()
        """What the worker's log has been told, `MOST_SAID` at most: names are the job's choice."""
        self.moved_at = 0.0
        """When the last generation has last come forward; by the monotonic clock."""

    @contextmanager
    def watched(self) -> Iterator[Callable[[], None]]:
        """Have the folder looked at; what is on its way at the end of the context is given up.

        The thread that looks begins with a call, of what is given, that comes late enough: many
        attempts are over before.
        """
        self._ended.clear()
        due = time.monotonic() + LOOK
        started: list[threading.Thread] = []

        def look() -> None:
            if not started and time.monotonic() >= due:
                name = f"checkpoints-{self._ref.job_id}-{self._ref.attempt}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                with starting_thread():
                    thread.start()
                started.append(thread)

        try:
            yield look
        finally:
            self._ended.set()
            for thread in started:
                thread.join()

    def take_last(self, is_unwanted: Callable[[], bool]) -> None:
        """Have the files kept as the attempt has left them; nothing writes to them any more.

        That they cannot be kept is said at the end of the job's log.

        Args:
            is_unwanted: asked again and again; true to give it up.

        Raises:
            StaleAttempt: the attempt no longer counts.
            Stopped: the agent ends.
            Superseded: so must it.
        """
        self._is_unwanted = is_unwanted
        try:
            seen = self._snapshots.look()
            self._say_left_out()
            if seen and seen != self._sent:
                self._keep(seen, LAST_CHECKPOINT, is_over=True)
        except (StaleAttempt, Stopped, Superseded):
            raise
        except GivenUp:
            log.debug("The last checkpoint of job %d is not wanted any more.", self._ref.job_id)
        except (DTrainError, OSError) as error:
            self._say(str(error))
            with suppress(OSError):
                self._folder.end_log(f"The last checkpoint is not kept: {plain(str(error))}")

    def _run(self) -> None:
        pause = due = 0.0
        whole_at = time.monotonic()
        while not self._ended.wait(pause):
            started = time.monotonic()
            try:
                seen = self._snapshots.look()
                pause = max(LOOK, SHARE * (time.monotonic() - started))
                self._say_left_out()
                if seen and seen != self._sent and time.monotonic() >= due:
                    self._keep(seen, CHECKPOINT, is_over=False)
                    due = started + self._interval
                if seen == self._sent:
                    whole_at = time.monotonic()
            except (GivenUp, Stopped, Superseded):
                return
            except StaleAttempt:
                self._on_stale()
                return
            except Changing as error:
                if time.monotonic() - whole_at > CHANGING:
                    self._say(f"It is never whole, so that none is kept: {error.detail}")
                due = time.monotonic() + min(time.monotonic() - started, self._interval)
            except (DTrainError, OSError) as error:
                self._say(str(error))
                due = time.monotonic() + min(FAILED_PAUSE, self._interval)
            except Exception:  # a job is worth more than its checkpoints
                log.exception("The checkpoints of job %d are not looked at.", self._ref.job_id)
                return

    def _keep(self, seen: Look, patience: Patience, *, is_over: bool) -> None:
        """Have the server keep the files that were seen."""
        if self._newest is None:
            self._ask(patience)
        self._check_size(seen)
        files = self._snapshots.take(seen, is_over=is_over)
        self._hand_over(files, patience)
        self._snapshots.clear()
        self._sent = seen
        log.debug("Generation %d of job %d is kept.", self._newest, self._ref.job_id)

    def _ask(self, patience: Patience) -> None:
        try:
            kept = self._link.kept_generations(self._ref, patience)
        except NotFound as error:
            raise Refused(
                "The server is of an older version, which keeps no checkpoints; upgrade it."
            ) from error
        self._newest = max((generation.number for generation in kept.generations), default=0)
        self._limit = kept.limit

    def _check_size(self, seen: Look) -> None:
        if len(seen) > MOST_FILES:
            raise Refused(
                f"The checkpoint has {len(seen):,} files, and {MOST_FILES:,} are taken; put them"
                " into fewer files."
            )
        size = sum(stamp.size for stamp in seen.values())
        if size > self._limit:
            self._newest = None  # the server may be given another limit meanwhile
            raise Refused(
                f"The checkpoint has {size / 1024**2:,.0f} MB, and the server takes"
                f" {self._limit / 1024**2:,.0f} (DTRAIN_MAX_CHECKPOINT_MB)."
            )

    def _hand_over(self, files: list[CheckpointFileInfo], patience: Patience) -> None:
        for _ in range(TRIES):
            self._check()
            message = Generation(number=(self._newest or 0) + 1, files=files)
            answer = self._link.keep_generation(self._ref, message, patience)
            self._newest = answer.newest
            if answer.kept:
                return
            self._send(files, answer.missing, patience)
        raise Unavailable("The server does not keep the checkpoint, although it was sent.")

    def _send(
        self, files: Sequence[CheckpointFileInfo], missing: Sequence[str], patience: Patience
    ) -> None:
        place = {file.sha256: file.path for file in files}
        for sha256 in missing:
            if sha256 in place:
                with self._snapshots.open(place[sha256]) as content:
                    self._link.put_content(self._ref, sha256, content, patience)
                self._check()

    def _check(self) -> None:
        """Go no further if the generation is not wanted any more."""
        if self._is_unwanted():
            raise GivenUp
        self.moved_at = time.monotonic()

    def _say_left_out(self) -> None:
        for text in self._snapshots.left_out[:MOST_SAID]:
            self._say(f"It is left out: {text}.")

    def _say(self, text: str) -> None:
        """Tell the worker's log, once."""
        if text not in self._said and len(self._said) < MOST_SAID:
            self._said.add(text)
            log.warning("Checkpoint of job %d: %s", self._ref.job_id, plain(text))
