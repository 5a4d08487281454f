"""A job that prints a gigabyte without a newline."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from support.api import FINAL, get_json
from support.example_job import zip_of
from support.processes import RunningServer, RunningWorker, wait_for

from dtrain.client.client import Client

MIB = 2**20
LONG = 900
"""MiB of the line; what is longer than a log may be is cut."""
PRINTS = f"""\
import os
piece = b"x" * 2**20
for _ in range({LONG}):
    left = piece
    while left: left = left[os.write(1, left):]
print("\\nthe end", flush=True)
"""


class Memory:
    """The most memory that a process was seen to have.

    Args:
        families: the numbers of processes, whose descendants count as well.
    """

    def __init__(self, *families: int) -> None:
        self._families = [psutil.Process(pid) for pid in families]
        self.peak = 0

    def look(self) -> None:
        """Look at all of them."""
        for first in self._families:
            for process in (first, *first.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    self.peak = max(self.peak, process.memory_info().rss)


def test_line_of_a_gigabyte_takes_little_memory(
    tmp_path: Path, server: RunningServer, worker: RunningWorker
) -> None:
    memory = Memory(server.pid, worker.pid)
    bundle = zip_of(tmp_path / "bundle.zip", {"main.py": PRINTS})
    with Client(server.url) as client:
        job_id = client.submit(bundle, name="one line").id
    address = f"{server.url}/api/jobs/{job_id}"

    def ended() -> dict[str, Any] | None:
        memory.look()
        job: dict[str, Any] = get_json(address)
        return job if job["status"] in FINAL else None

    job = wait_for(ended, "the job to end", patience=1800)
    assert (job["status"], job["exit_code"]) == ("completed", 0)
    assert job["log_bytes"] == LONG * MIB + len("\nthe end\n")
    page = get_json(f"{address}/logs?tail=1&limit=10")
    first, last = page["lines"]
    assert page["total_lines"] == 2
    assert first["text"] == "x" * len(first["text"])
    assert last["text"] == "the end"
    memory.look()
    assert memory.peak < 250 * MIB
