"""A process that has the shim's modules in it and forks one shim for each attempt.

A Python that starts anew and imports them takes some 25 ms of a processor, a fork one. The agent
starts it (`launcher`) and asks through a socket, with a message for each shim: the attempt's folder
and mark, and three descriptors. It ends with the agent; the shims go on.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH123

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys

from . import layout
from .shim_main import HELD, READY, close_above

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
    close_above(ASKED)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a shim: init or the kernel
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever ends the agent's group ends the agent
    gc.freeze()
    with socket.socket(fileno=ASKED) as asked:
        while True:
            message, descriptors, _, _ = socket.recv_fds(asked, LONGEST, 3)
            if not message:
                sys.exit(0)
            if os.fork() == 0:
                asked.detach()
                return _become_shim(message, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)


def _become_shim(message: bytes, descriptors: list[int]) -> str:
    """Take over what the shim was given; the folder of its attempt."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor, place in zip(descriptors, (READY, HELD, 1), strict=True):
        os.dup2(descriptor, place)
    os.dup2(1, 2)
    mark, _, folder = os.fsdecode(message).partition("\0")
    os.environ[layout.MARK] = mark
    with contextlib.suppress(OSError):
        _show({BLANK_MARK: mark, BLANK_TITLE: folder})
    return folder


def _show(texts: dict[str, str]) -> None:
    """Replace texts in this process's arguments and variables, as others see them in `/proc`.

    The kernel reads both where they were put at the start. A longer text is cut off.
    """
    with open("/proc/self/stat", "rb") as file:
        # The second field, a name in parentheses, may contain blanks.
        fields = file.read().rpartition(b")")[2].split()
    begin, end = int(fields[_ARGUMENTS - 3]), int(fields[_VARIABLES_END - 3])
    content = ctypes.string_at(begin, end - begin) if begin else b""
    for old, new in texts.items():
        at = content.find(os.fsencode(old))
        if at >= 0:
            ctypes.memmove(begin + at, os.fsencode(new)[: len(old)].ljust(len(old)), len(old))
