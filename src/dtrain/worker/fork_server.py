"""A process that has the shim's modules in it and forks one shim for each attempt.

A Python that starts anew and imports them takes some 25 ms of a processor, a fork one. The agent
starts it (`launcher`) and asks through a socket, with a message for each shim: the attempt's folder
and mark, and three descriptors. It ends with the agent; the shims go on.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys

from . import layout, processes
from .layout import read_if_there
from .shim_main import HELD, READY

ASKED = 3
"""The descriptor of the socket."""
LONGEST = 8192
"""Bytes of a message at most."""
BLANK_MARK = "0" * 32
"""The mark of this process, which tells nothing: a shim puts its own in the same place."""
BLANK_TITLE = "(forks one for each attempt)".ljust(256)
"""The last argument of this process, which a shim replaces by its attempt's folder."""
_ARGUMENTS, _VARIABLES_END = 48, 51
"""The fields of `/proc/self/stat` that tell where arguments begin and variables end: `proc(5)`."""


def serve() -> str:
    """Fork a shim for each message. Returns in the shims alone: the folder of the attempt.

    Raises:
        SystemExit: the agent has gone.
    """
    _close_above(ASKED)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a shim: init or the kernel
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever ends the agent's group ends the agent
    shown = _Shown()
    processes.boot_id()  # which no shim has to read then
    gc.freeze()
    with socket.socket(fileno=ASKED) as asked:
        while True:
            message, descriptors, _, _ = socket.recv_fds(asked, LONGEST, 3)
            if not message:
                sys.exit(0)
            if os.fork() == 0:
                asked.detach()
                return _become_shim(message, descriptors, shown)
            for descriptor in descriptors:
                os.close(descriptor)


def _close_above(last: int) -> None:
    """Let go of descriptors that the agent's own ancestors left open: a job would inherit them."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > last:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                os.close(int(name))


def _become_shim(message: bytes, descriptors: list[int], shown: _Shown) -> str:
    """Take over what the shim was given; the folder of its attempt."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor, place in zip(descriptors, (READY, HELD, 1), strict=True):
        os.dup2(descriptor, place)
    os.dup2(1, 2)
    for descriptor in descriptors:
        if descriptor > HELD:
            os.close(descriptor)
    mark, _, folder = os.fsdecode(message).partition("\0")
    os.environ[layout.MARK] = mark
    shown.replace(BLANK_MARK, mark)
    shown.replace(BLANK_TITLE, folder)
    return folder


class _Shown:
    """What others see in `/proc` of this process's arguments and variables.

    The kernel reads both where they were put at the start, which is the same place in a fork.
    """

    def __init__(self) -> None:
        # The second field, a name in parentheses, may contain blanks.
        fields = (read_if_there("/proc/self/stat") or b"").rpartition(b")")[2].split()
        self._begin, end = int(fields[_ARGUMENTS - 3]), int(fields[_VARIABLES_END - 3])
        self._content = ctypes.string_at(self._begin, end - self._begin) if self._begin else b""

    def replace(self, old: str, new: str) -> None:
        """Show another text in the place of one, if that is there. What is longer is cut off."""
        at = self._content.find(os.fsencode(old))
        if at >= 0:
            text = os.fsencode(new)[: len(old)].ljust(len(old))
            ctypes.memmove(self._begin + at, text, len(old))
