"""What a step of the worker's own has to say, in the job's log."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Put a line into the job's log."""
    say_as_it_is(f"{line}\n")


def say_as_it_is(text: str) -> None:
    """Put a text into the job's log, as UTF-8 whatever the machine's locale is."""
    sys.stdout.buffer.write(text.encode(errors="replace"))
    sys.stdout.flush()
