"""The program of a job that only pretends; `fake` says what its variables mean."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping


def main(env: Mapping[str, str]) -> int:
    """Do what the variables ask for; the exit code, if it gets that far."""
    count = int(env.get("FAKE_LINES", "0"))
    for number in range(count):
        record = {"step": number + 1, "steps": count, "loss": 1 / (number + 1)}
        print(f"line {number}\nPROGRESS: {json.dumps(record)}", flush=True)  # noqa: T201 -- its log
        time.sleep(float(env.get("FAKE_INTERVAL", "0")))
    time.sleep(float(env.get("FAKE_SLEEP", "0")))
    if "FAKE_SIGNAL" in env:
        os.kill(os.getpid(), int(env["FAKE_SIGNAL"]))
    return int(env.get("FAKE_EXIT", "0"))


if __name__ == "__main__":
    sys.exit(main(os.environ))
