"""Calls of uv: quiet ones for its answer, and those whose words go into a job's log.

What goes into a log are uv's own words, line by line as they come: what it downloads and how large
it is, what it builds, how long that took. While it has nothing to say, which is how it reads a slow
index, a line tells now and then how long it has been at it and what it asked for last. Passwords in
addresses are blotted out, also those that a build prints.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from .cells import Cell
from .say import say

FIRST_WORD = 5.0
"""Seconds of silence after which a log says that the work goes on; each next time twice as many."""
_LONGEST = 60.0
"""Seconds between two such lines at most."""

_ALWAYS = ("--color", "never", "--no-progress")
_TRACE = {"RUST_LOG": "uv_client=debug"}
"""Makes uv tell of each request; what it tells is kept for when it falls silent."""
_TRACED = re.compile(r"(?:TRACE|DEBUG|INFO|WARN) (.*)")
_ASKED = re.compile(r"Sending fresh \w+ request for: (\S+)")
_USER_INFO = re.compile(r"(?<=://)(?!git@)[^\s/]+(?=@)")
_SECRET = re.compile(r"://[^\s/@:]*:([^\s/]+)@")
_SHORTEST_SECRET = 4
"""Characters of a password that is looked for outside of addresses as well."""
_SECRET_NAME = re.compile(r"UV_INDEX_\w+_PASSWORD")


def program() -> str:
    """Where uv is: beside the interpreter of the environment it is in, else where it says itself.

    To ask it costs as much as all that the step that makes an environment does by itself.
    """
    beside = f"{sys.prefix}/bin/uv"
    if sys.prefix != sys.base_prefix and os.access(beside, os.X_OK):
        return beside
    import uv  # noqa: PLC0415 -- see above

    return uv.find_uv_bin()


def quiet(
    arguments: list[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run uv without what this machine sets for it, and without downloads of interpreters.

    Args:
        arguments: of uv.
        variables: set for it in addition.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [program(), *arguments, "--color", "never", "--no-python-downloads"]
    return subprocess.run(
        command, env={**kept, **(variables or {})}, capture_output=True, text=True, check=False
    )


def spawned(arguments: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start uv, with exactly these variables; its answer and its words can be read from pipes."""
    command = [program(), *arguments, *_ALWAYS]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=variables, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )


class Patience:
    """Tells now and then that something lasts.

    Args:
        what: what lasts; the time is said after it.
        first: seconds after which it is said for the first time.
    """

    def __init__(self, what: str, first: float = 0.0) -> None:
        self.what = what
        self._began = time.monotonic()
        self._silence = FIRST_WORD
        self._next = self._began + first

    def restart(self) -> None:
        """Begin to be silent: something else was said."""
        self._silence = FIRST_WORD
        self._next = time.monotonic() + FIRST_WORD

    @property
    def left(self) -> float:
        """Seconds until something is to be said."""
        return max(self._next - time.monotonic(), 0)

    def __call__(self) -> None:
        """Say so, if it is time."""
        now = time.monotonic()
        if now >= self._next:
            lasted = round(now - self._began)
            say(f"{self.what}, for {lasted} s by now." if lasted else f"{self.what}.")
            self._next = now + self._silence
            self._silence = min(self._silence * 2, _LONGEST)


def aloud(
    arguments: list[str],
    *,
    cwd: Path,
    without: set[str] | None = None,
    held: tuple[int, ...] = (),
    cell: Cell | None = None,
) -> bool:
    """Run uv with its words in the job's log; whether it succeeded.

    Args:
        arguments: of uv.
        cwd: the folder it runs in.
        without: variables of this process that it does not get.
        held: descriptors of locks that are to be held until it has ended, whatever becomes of us.
        cell: where it runs, if it may run what others wrote; nothing is left of it afterwards.
    """
    variables = {name: text for name, text in os.environ.items() if name not in (without or set())}
    command = [program(), *arguments, *_ALWAYS]
    patience = Patience("uv is at work", FIRST_WORD)
    blot = Blotter(os.environ)

    def tell(line: str) -> None:
        traced = _TRACED.fullmatch(line)
        if traced is None:
            say(blot(line))
            patience.restart()
        elif asked := _ASKED.match(traced[1]):
            patience.what = f"uv waits for {blot(asked[1])}"

    if cell is not None:
        with cell.started(command, {**variables, **_TRACE}, str(cwd)) as confined:
            for line in _lines(confined.words, patience):
                tell(line)
        return confined.succeeded
    process = subprocess.Popen(
        command,
        env={**variables, **_TRACE},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=held,
    )
    with process:
        for line in _lines(process.stderr.fileno() if process.stderr else -1, patience):
            tell(line)
    return process.returncode == 0


def _lines(pipe: int, patience: Patience) -> Iterator[str]:
    """The lines that come through a pipe, in time."""
    os.set_blocking(pipe, False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(patience.left):
                patience()
                continue
            piece = os.read(pipe, 64 * 1024)
            if not piece:
                break
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace").rstrip("\r") for line in whole)
    if rest:
        yield rest.decode(errors="replace")


class Blotter:
    """Makes passwords in a text unreadable: those in addresses, and those in the settings.

    Args:
        variables: the settings, whose passwords may turn up without their address.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        secrets = set()
        for name, value in variables.items():
            if _SECRET_NAME.fullmatch(name):
                secrets.add(value)
            secrets.update(_SECRET.findall(value))
        secrets |= {unquote(secret) for secret in secrets}
        long = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        self._secrets = sorted(long, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without passwords."""
        text = _USER_INFO.sub("****", text)
        for secret in self._secrets:
            text = text.replace(secret, "****")
        return text
