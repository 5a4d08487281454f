"""What a step of the worker's own has to say, in the job's log."""

from __future__ import annotations


def say(line: str) -> None:
    """Put a line into the job's log."""
    print(line, flush=True)  # noqa: T201 -- the job's log
