"""A job that prints awkward bytes and keeps a copy of them, and the comparison with the server's.

The copy is written first: whatever a log holds, its attempt's copy holds as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtrain.client.client import Client

from .api import FINAL, get, get_json
from .example_job import zip_of
from .ledger import losses

JOB = r'''
"""Prints awkward bytes until it is let go, and writes the same bytes to a file of its own."""
import json
import os
import pathlib
import random
import sys
import time

folder = pathlib.Path(os.environ["WITNESS"])
attempt = os.environ["DTRAIN_ATTEMPT"]
copy = (folder / f"copy-{attempt}").open("ab", buffering=0)
with (folder / "starts").open("a") as starts:
    starts.write(f"{os.getpid()}\n")
chance = random.Random(str(folder) + attempt)
pause = float(os.environ.get("PAUSE", "0.02"))
steps = int(os.environ.get("STEPS", "0"))


def say(data):
    copy.write(data)
    while data:
        data = data[os.write(1, data):]


step = 0
while step < (steps or 10) or not (steps or (folder / "gate").exists()):
    step += 1
    say(f"step {step}: grüße ✓\n".encode())
    say(b"bytes that are no text: \x00\xff\xfe\x1b[31m\r\n")
    say(b"10%\r50%\r100%\r\n")
    record = json.dumps({"step": step, "loss": 1 / step, "share": float("nan")})
    line = f"PROGRESS: {record}\n".encode()
    cut = chance.randrange(len(line))
    say(line[:cut])
    time.sleep(pause)
    say(line[cut:])
    if step % 10 == 0 and "SMALL" not in os.environ:
        say(chance.randbytes(75_000).replace(b"\n", b"\r") + b"x" * 75_000 + b"\n")
(pathlib.Path(os.environ["DTRAIN_OUTPUT_DIR"]) / "steps.txt").write_text(str(step))
say(b"the last line has no end")
sys.exit(int(os.environ.get("EXIT", "0")))
'''


def bundle(folder: Path) -> Path:
    """The ZIP of the job, in a folder."""
    return zip_of(folder / "witness.zip", {"main.py": JOB})


class Witness:
    """What a job says itself that it did, in the folder that its variable `WITNESS` names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def variables(self, **more: object) -> dict[str, str]:
        """The variables with which the job is handed in."""
        return {"WITNESS": str(self.folder), **{name: str(value) for name, value in more.items()}}

    def let_go(self) -> None:
        """Have the job end."""
        (self.folder / "gate").touch()

    def starts(self) -> list[int]:
        """The processes in which the user's code was started."""
        path = self.folder / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def printed(self, attempt: int = 1) -> bytes:
        """What an attempt has printed so far, by its own account."""
        path = self.folder / f"copy-{attempt}"
        return path.read_bytes() if path.exists() else b""


def records_in(printed: bytes) -> list[dict[str, Any]]:
    """The records in what the job printed, as the server tells them."""
    found = re.findall(rb"^PROGRESS: (\{.*\})$", printed, re.MULTILINE)
    return [{**json.loads(record), "share": "NaN"} for record in found]


def log_of_attempt(server: str, job_id: int, attempt: int) -> bytes:
    """The log of an attempt, as the server has it."""
    return get(f"{server}/api/jobs/{job_id}/logs?attempt={attempt}", {"Accept": "text/plain"})


def records_of_attempt(server: str, job_id: int, attempt: int) -> list[dict[str, Any]]:
    """The PROGRESS records of an attempt, as the server has them."""
    records: list[dict[str, Any]] = []
    while True:
        page = get_json(
            f"{server}/api/jobs/{job_id}/metrics?attempt={attempt}&after={len(records)}"
        )
        records += [record["values"] for record in page["records"]]
        if not page["more"]:
            return records


def differing_bytes(printed: bytes, stored: bytes) -> int:
    """How many bytes are lost, doubled or other, from the first difference on."""
    length = min(len(printed), len(stored))
    if printed[:length] == stored[:length]:
        return abs(len(printed) - len(stored))
    same = next(place for place in range(length) if printed[place] != stored[place])
    return max(len(printed), len(stored)) - same


def differing_records(
    printed: list[Mapping[str, Any]] | list[dict[str, Any]], stored: list[dict[str, Any]]
) -> int:
    """How many records are lost, doubled or other, from the first difference on."""
    length = min(len(printed), len(stored))
    same = next((place for place in range(length) if printed[place] != stored[place]), length)
    return max(len(printed), len(stored)) - same


def hand_in(server: str, witness: Witness, **variables: object) -> int:
    """Hand the job in; its number. Without `STEPS` it runs until it is let go."""
    env = witness.variables(**variables)
    client = Client(server)
    try:
        return client.submit(bundle(witness.folder), name=witness.folder.name, env=env).id
    finally:
        client.close()


def assert_whole(server: str, job_id: int, witness: Witness, attempt: int = 1) -> None:
    """What the server has of an attempt is what the attempt printed, byte for byte."""
    printed = witness.printed(attempt)
    assert printed
    stored, records = log_of_attempt(server, job_id, attempt), records_in(printed)
    lost = differing_records(records, records_of_attempt(server, job_id, attempt))
    losses["log bytes lost or doubled"] += differing_bytes(printed, stored)
    losses["metric points lost or doubled"] += lost
    assert stored == printed
    assert lost == 0


def final_states(server: str, job_id: int) -> list[str]:
    """The final states that a job has come to, by its events."""
    events = get_json(f"{server}/api/jobs/{job_id}/events")["events"]
    found = [event["kind"] for event in events if event["kind"] in FINAL]
    losses["jobs with two final states"] += max(len(found) - 1, 0)
    return found
