"""Where measurements hand in what they measured; raw samples are on disk at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .machine import LOOP, loop_milliseconds
from .samples import summary
from .table import Role, Row, Target, number


class Report:
    """The results of one run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self.left_out: list[str] = []
        self.loops: list[float] = []
        """How long the fixed loop took in the course of the run, in milliseconds."""

    def add(
        self,
        measure: str,
        subject: str,
        unit: str,
        samples: Sequence[float],
        *,
        role: Role = "dtrain",
        target: Target | None = None,
    ) -> None:
        """Keep the samples of one thing, and show what they come to."""
        with (self.folder / "samples.jsonl").open("a") as raw:
            raw.write(json.dumps([measure, subject, unit, list(samples)]) + "\n")
        row = Row(measure, subject, role, unit, summary(samples), target)
        self.rows.append(row)
        told = row.summary
        spread = f"{number(told.low)} – {number(told.high)}, n = {told.count}"
        say(f"    {subject}: {measure}: {number(told.median)} {unit} ({spread})")

    def machine(self, when: str) -> None:
        """Measure how fast the machine is at this moment."""
        took = loop_milliseconds()
        self.loops.append(took)
        self.add(LOOP, when, "ms", [took], role="floor")

    def leave_out(self, what: str, why: str) -> None:
        """Keep that something is not measured because it is not here."""
        self.left_out.append(f"{what}: {why}")
        say(f"    {what}: {why}")

    def fail(self, what: str, error: Exception) -> None:
        """Keep that something could not be measured, and why."""
        reason = str(error).strip() or type(error).__name__
        self.failures.append(f"{what}: {reason.splitlines()[0]}")
        say(f"    {what} could not be measured: {reason}")


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
