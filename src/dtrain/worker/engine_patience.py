"""What a step of the worker's own does while the container engine is away: it waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .engine import EngineAway
from .say import say

_PAUSES = (0.1, 5.0)
"""Seconds between two looks for an engine that is away: first, and at last."""
_LONG = 1.0
"""The pause from which on the job's log says that it is waited for."""
_OUTAGE = 300.0
"""Seconds without trouble after which an engine that is away is a new trouble."""
T = TypeVar("T")


def until_done(
    action: Callable[[], T],
    on_away: Callable[[EngineAway], None] | None = None,
    tell: Callable[[str], None] = say,
) -> T:
    """Do something with the engine, again from its start each time that the engine goes away.

    Args:
        action: raises `EngineAway` if it has to be done again.
        on_away: called each time, before the pause.
        tell: called with a line for the job's log if that takes long.
    """
    pause, longest = _PAUSES
    is_said = False
    while True:
        began = time.monotonic()
        try:
            return action()
        except EngineAway as error:
            if on_away is not None:
                on_away(error)
            if time.monotonic() - began > _OUTAGE:
                pause, is_said = _PAUSES[0], False
            if pause > _LONG and not is_said:
                is_said = True
                tell(f"{error.detail} The job waits for it.")
        time.sleep(pause)
        pause = min(pause * 2, longest)
