"""`dtrain demo`: a server, a worker and a real training on this machine, and what comes of it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

import dtrain
from dtrain.client.client import Client
from dtrain.protocol import routes
from dtrain.protocol.errors import Conflict, DTrainError, Unavailable, Unreachable
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Status

from . import output
from .following import follow

WORKER = "demo-worker"
TAG = "demo"
"""Marks the jobs that a demo hands in itself."""
USUAL_PORT = 5000
START = 300.0
"""Seconds for server and worker to be there, on however slow a machine; one that ends is seen."""
WORD = 15.0
"""Seconds after which it is said what is being waited for."""
STOP = 45.0
"""Seconds for each to end in order; after them it is killed."""
_LOG = "output.log"
_SETTINGS = {
    "SECRET_KEY",
    "DATABASE_URL",
    "WORKER_SHARED_TOKEN",
    "UPLOAD_FOLDER",
    "JOB_BUNDLES_FOLDER",
}
"""Names without DTRAIN_ in front; a person may have set them for a server of their own."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


@click.command()
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for all that is written; else dtrain/demo in your cache folder.",
)
@click.option(
    "--once",
    is_flag=True,
    envvar="DEMO_ONCE",
    help="End when the job has ended, as without a terminal; else Ctrl-C ends the demo.",
)
@click.pass_context
def demo(context: click.Context, home: Path | None, *, once: bool) -> None:
    """Start a server and a worker here, train on real data, and show what comes out."""
    once = once or not sys.stdout.isatty()
    home = (home or _cache() / "dtrain" / "demo").absolute()
    example = _example()
    with _reserved(home), Household(home) as household:
        job = household.train(example)
        if not once:
            household.serve_until_told()
    context.exit(0 if job.status is Status.COMPLETED else 1)


class Household:
    """A server and a worker as child processes, which end when this process does, however that is.

    As a context manager: both are there inside it, and gone after it. Inside it a signal to end,
    or the end of a child, ends the context.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._port = _free_port()
        self._client = Client(f"http://localhost:{self._port}")
        self._status: int | None = None
        """The exit status for a signal to end; None as long as there is something to wait for."""

    def __enter__(self) -> Household:
        for number in _ENDING:
            signal.signal(number, self._told_to_end)
        signal.signal(signal.SIGCHLD, self._child_ended)
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def train(self, example: Path) -> Job:
        """Hand in the example, follow it to its end, and fetch what it leaves."""
        submitted = self._client.submit(example, name="Handwritten digits", tags=[TAG])
        _say(f"Job {submitted.id}: {self._client.page(submitted.id)}")
        job = follow(self._client, submitted.id)
        results = self._home / "results" / f"job-{job.id}"
        for path in self._client.jobs.save_artifacts(job.id, results, overwrite=True):
            _say(f"  {output.size(path.stat().st_size):>9}  {path}")
        return job

    def serve_until_told(self) -> NoReturn:
        """Leave everything running until a signal comes."""
        self._status = 0
        _say(f"Dashboard: {self._client.url}   (Ctrl-C ends the demo)")
        while True:
            signal.pause()

    def _start(self) -> None:
        token = secrets.token_urlsafe(24)
        if self._port != USUAL_PORT:
            _say(f"Port {USUAL_PORT} is taken, so the demo serves on port {self._port}.")
        self._spawn(
            "server",
            {
                "DTRAIN_HOST": "127.0.0.1",
                "DTRAIN_PORT": str(self._port),
                "WORKER_SHARED_TOKEN": token,
            },
        )
        self._wait_for(self._server_answers, "server")
        self._cancel_unfinished()
        self._spawn(
            "worker",
            {
                "DTRAIN_SERVER_URL": self._client.url,
                "DTRAIN_WORKER_TOKEN": token,
                "DTRAIN_WORKER_NAME": WORKER,
                "DTRAIN_AUTO_ACCEPT_JOBS": "true",
            },
        )
        self._wait_for(self._worker_is_online, "worker")
        _say(f"Dashboard: {self._client.url}")

    def _spawn(self, name: str, settings: Mapping[str, str]) -> None:
        """Run `dtrain server` or `dtrain worker` on a folder of its own."""
        folder = self._home / name
        folder.mkdir(exist_ok=True)
        with (folder / _LOG).open("wb") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "dtrain", name, folder],
                env={**_environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who end them in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509  there are no threads yet
            )

    def _wait_for(self, condition: Callable[[], bool], name: str) -> None:
        begun = time.monotonic()
        is_said = False
        while not condition():
            waited = time.monotonic() - begun
            if waited > WORD and not is_said:
                is_said = True
                _say(f"The {name} takes its time to start; waiting for it.")
            if waited > START:
                raise DTrainError(
                    f"The {name} did not come up within {START:g} seconds;"
                    f" look into {self._log(name)}."
                )
            time.sleep(0.1)

    def _server_answers(self) -> bool:
        try:
            self._client.transport.request("GET", routes.HEALTHZ)
        except (Unreachable, Unavailable):
            return False
        return True

    def _cancel_unfinished(self) -> None:
        """End what an interrupted demo has left, lest this one waits until it is done."""
        for status in (Status.PENDING, Status.RUNNING):
            for job in self._client.jobs.list(status=status, tag=TAG).jobs:
                self._client.jobs.cancel(job.id)

    def _worker_is_online(self) -> bool:
        return any(worker.state == "online" for worker in self._client.workers.list())

    def _told_to_end(self, number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number if self._status is None else self._status)

    def _child_ended(self, *_: object) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                log = self._log(name)
                last = log.read_text(errors="replace").strip().rpartition("\n")[2]
                raise DTrainError(f"The {name} has ended: {last or 'it said nothing'} (see {log})")

    def _log(self, name: str) -> Path:
        return self._home / name / _LOG

    def _end(self) -> None:
        """End the worker, then the server; nothing that is sent to us now may leave one behind."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(self._children.values()):
            child.terminate()
            try:
                child.wait(STOP)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def _reserved(home: Path) -> Iterator[None]:
    """Keep a second demo out of a folder.

    Raises:
        Conflict: one is in it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Another demo runs in {home}; end it first, or give this one a folder with --home."
            ) from None
        yield


def _free_port() -> int:
    """The usual port, or one that the system chooses where that is taken."""
    for port in (USUAL_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port == 0 or not _answers_on_ipv6(port):
                found: int = probe.getsockname()[1]
                return found
    raise Unavailable("This machine has no free port; end something that listens on one.")


def _answers_on_ipv6(port: int) -> bool:
    """Whether `localhost` could mean another program, which listens there."""
    try:
        with socket.create_connection(("::1", port), timeout=1):
            return True
    except OSError:
        return False


def _environment() -> dict[str, str]:
    """Ours, without what is set for another server or worker."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _SETTINGS and not name.startswith("DTRAIN_")
    }


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _example() -> Path:
    """The folder of the example in the checkout that we run from.

    Raises:
        Unavailable: we do not run from one.
    """
    folder = Path(dtrain.__file__).parents[2] / "examples" / "digits"
    if not (folder / "main.py").is_file():
        raise Unavailable(
            "The demo's example comes with the source of DTrain alone; run make demo there."
        )
    return folder


def _die_with_parent() -> None:
    """Have this child told to end when its parent is gone, even if that was killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _say(text: str) -> None:
    click.echo(output.clean(text))
