"""How what a program stands in for has ended, as the program has written it down.

Imported by the shim, hence the standard library's quick part alone.
"""

from __future__ import annotations

import json

from . import layout
from .layout import read_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Outcome:
    """What is told of an end; all of it may be missing.

    Args:
        told: `cause`, `message`, `exit_code` or `signal`, `peak_memory` and `memory_limit`.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.cause: str | None = told.get("cause")
        """None leaves it to what the shim itself has asked for."""
        self.message: str | None = told.get("message")
        self.end: dict[str, int] = {
            name: told[name] for name in ("exit_code", "signal") if name in told
        }
        self.peak_memory: int | None = told.get("peak_memory")
        """Bytes."""
        self.memory_limit: int | None = told.get("memory_limit")
        """Bytes."""


def read_outcome(folder: str) -> Outcome:
    """The outcome that lies in an attempt's folder, if one does."""
    return Outcome(json.loads(read_if_there(f"{folder}/{layout.OUTCOME}") or b"{}"))
