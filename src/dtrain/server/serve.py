"""Serving: one process that serves and, above it, one that watches it.

The upper process checks what can be checked and starts the lower one, which alone builds the
application. The lower one dies with the upper one, and on SQLite holds a lock for life, so that no
second server can serve the same data.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import multiprocessing
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import IO, Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from dtrain.protocol.errors import DTrainError, Invalid

from . import certificate
from .data_lock import lock_data
from .joining import announcement
from .settings import Settings, load

HEADER_SECONDS = 30
"""Within which the head of a request must arrive, on a connection that lay idle as well."""
HEADER_BYTES = 128 * 1024
DEAD_SECONDS = 60
"""After which a connection is ended whose other side does not answer, or does not read."""
END_SECONDS = 5
"""After which requests under way are cut off when the server ends."""
_OTHER_THREADS = 200
"""For requests that are neither held polls nor streams."""
_OTHER_CONNECTIONS = 2000
"""For connections on which nothing is asked at the moment."""
_OPEN_FILES = 65_536
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Served:
    """An application, and how to end what belongs to it."""

    application: Callable[..., Any]
    stop: Callable[[], None]
    """Lets held requests and streams go; called again and again while the server ends."""
    close: Callable[[], None]
    """Called when the last request is answered."""


def run(home: Path, build: Callable[[Settings], Served]) -> int:
    """Serve the application of a home folder until a signal ends it; the exit status.

    Args:
        home: the server's home folder.
        build: makes the application; called in the process that serves, so it must be importable.
    """
    try:
        settings = load(home)
        if settings.tls_certificate is not None and settings.tls_key is not None:
            certificate.check(settings.tls_certificate, settings.tls_key)
        for lock in lock_data(settings):
            lock.close()
        hold = _take_port(settings)
    except DTrainError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 2
    with hold:
        return _serve(home, settings, build)


def _serve(home: Path, settings: Settings, build: Callable[[Settings], Served]) -> int:
    server = _granian(settings)
    refused = multiprocessing.Event()
    loader = partial(_load, home, build, os.getpid(), refused)
    try:
        server.serve(target_loader=loader, wrap_loader=False)
    except SystemExit:
        if refused.is_set():
            return 2
        sys.stderr.write("The serving process has ended; what it said last stands above.\n")
        return 1
    finally:
        for left in multiprocessing.active_children():
            left.terminate()  # or this process would wait for it for ever, if it fails itself
    return 0


def _granian(settings: Settings) -> MPServer:
    """The HTTP server, with a serving process that is started once and never again."""
    server = MPServer(
        "dtrain",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=HEADER_BYTES
        ),
        blocking_threads=_threads(settings),
        backpressure=_threads(settings) + _OTHER_CONNECTIONS,
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
        workers_kill_timeout=END_SECONDS,
        log_level=LogLevels.critical,
    )
    # Left to itself, it would start a second serving process when a terminal is closed.
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    hangup = signal.SIG_IGN if ignored else server.signal_handler_interrupt
    server.on_startup(lambda: signal.signal(signal.SIGHUP, hangup))
    return server


def _threads(settings: Settings) -> int:
    """Each held poll and each stream keeps one; pages and reports find one free beside them."""
    return settings.max_held_polls + settings.max_streams + _OTHER_THREADS


def _load(
    home: Path, build: Callable[[Settings], Served], parent: int, refused: Event
) -> Callable[..., Any]:
    """The application, in the process that serves it; `refused` is set where it cannot be."""
    _die_with(parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # as many as we may have
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    try:
        settings = load(home)
        _log_to_stderr(settings)
        locks = lock_data(settings)
        served = build(settings)
    except DTrainError as error:
        sys.stderr.write(f"{error.detail}\n")
        refused.set()
        raise SystemExit(2) from None
    _end_with_signal(served, locks)
    threading.Thread(target=_greet, args=(settings,), name="greet", daemon=True).start()
    return served.application


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it was watched
        os._exit(1)


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("dtrain").setLevel(logging.DEBUG if settings.debug else logging.INFO)
    http = logging.getLogger("_granian")
    http.handlers.clear()
    http.propagate = True
    http.setLevel(logging.ERROR)


def _take_port(settings: Settings) -> socket.socket:
    """Make sure that nobody else serves the port, until what is returned is closed.

    Granian shares a port with whoever does so too. Who has it is asked here without sharing; and
    since two servers that start at once would both find it free, each first takes a name for it.
    The name is of Linux's abstract ones, which live as long as the process and no longer.
    """
    host, port = settings.host, settings.port
    hold = socket.socket(socket.AF_UNIX)
    try:
        hold.bind(f"\0dtrain-server-{host}-{port}")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        hold.close()
        reasons = {
            errno.EADDRINUSE: f"Port {port} is taken by another program; set DTRAIN_PORT to a"
            f" free one, for example DTRAIN_PORT={port % 65535 + 1}.",
            errno.EACCES: f"Port {port} is reserved for the system; set DTRAIN_PORT to one from"
            " 1024 on.",
            errno.EADDRNOTAVAIL: f"DTRAIN_HOST is {host}, which is no address of this machine;"
            " set it to one that is, or to 0.0.0.0 for all of them.",
        }
        sentence = reasons.get(
            error.errno or 0, f"{host}:{port} cannot be served ({error}); set DTRAIN_PORT."
        )
        raise Invalid(sentence) from error
    return hold


def _end_with_signal(served: Served, locks: list[IO[bytes]]) -> None:
    """Have the application told of the signal that ends the server, and closed at the very end.

    Granian sets signal handlers of its own, hence the wake-up descriptor beside them.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    ending = {signal.SIGTERM, signal.SIGINT}

    def watch() -> None:
        main = threading.main_thread()
        while main.is_alive():
            readable, _, _ = select.select([reading], [], [], 1)
            if readable and ending.intersection(os.read(reading, 100)):
                break
        served.stop()
        while main.is_alive():
            main.join(0.2)
            served.stop()
        served.close()
        for lock in locks:
            lock.close()

    threading.Thread(target=watch, name="end").start()


def _greet(settings: Settings) -> None:
    """Once the server answers, say where it is."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    for _ in range(100):
        with socket.socket(family) as probe:
            if probe.connect_ex((settings.host, settings.port)) == 0:
                break
        time.sleep(0.05)
    _notice_dead_peers(settings.port)
    sys.stdout.write(announcement(settings))
    sys.stdout.flush()


def _notice_dead_peers(port: int) -> None:
    """Have the kernel end connections whose other side has vanished, or no longer reads.

    Without this, the thread of an upload whose sender lost its power would wait for ever. What is
    set on the listening socket, which is Granian's own, holds for the connections it accepts.
    """
    options = {
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): DEAD_SECONDS // 2,
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): DEAD_SECONDS // 8,
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 4,
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): DEAD_SECONDS * 1000,
    }
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it has been closed meanwhile
            if entry.is_socket():
                _set_if_listening(int(entry.name), port, options)


def _set_if_listening(descriptor: int, port: int, options: dict[tuple[int, int], int]) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as found:
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return
        if found.getsockname()[1] == port:
            for (level, option), value in options.items():
                found.setsockopt(level, option, value)
