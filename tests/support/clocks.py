"""A time of day that a test sets, for programs that are started with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .ledger import faults
from .requirements import require


class DayTime:
    """A time of day that can be set; durations are told as they are."""

    def __init__(self, path: Path) -> None:
        self._library = require("libfaketime")
        self._path = path
        self.set(0)

    def set(self, hours: float) -> None:
        """Set it ahead of the machine's by so many hours."""
        faults["clock set"] += hours != 0
        new = self._path.with_suffix(".new")
        new.write_text(f"{hours * 3600:+.0f}\n")
        new.replace(self._path)

    def variables(self) -> Mapping[str, str]:
        """What a program finds in its environment to go by this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
