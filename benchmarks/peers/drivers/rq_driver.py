"""Measures RQ; runs in the environment of the peers, as do the workers that import it."""

from __future__ import annotations

import json
import subprocess
import sys
import time


def first_line() -> int:
    """A job that is a function: the time of its first line."""
    return time.monotonic_ns()


def script(python: str, path: str) -> int:
    """A job that is a script, as a training is: the time of the script's first line."""
    return int(subprocess.check_output([python, path]))


def main() -> None:
    """Print the figures."""
    from redis import Redis  # noqa: PLC0415  the workers have no need of it
    from rq import Queue  # noqa: PLC0415

    asked = json.loads(sys.argv[1])
    connection = Redis.from_url(asked["url"], socket_timeout=None)  # results are waited for
    for _ in range(600):
        try:
            connection.ping()
            break
        except OSError:
            time.sleep(0.1)
    queue = Queue("jobs", connection=connection)
    kinds = {
        "RQ, a function in a fork": ("rq_driver.first_line", ()),
        "RQ, which starts the script": ("rq_driver.script", (asked["python"], asked["script"])),
    }
    told = []
    for subject, (function, arguments) in kinds.items():
        latencies = []
        for number in range(asked["latencies"] + 2):
            begin = time.monotonic_ns()
            job = queue.enqueue(function, *arguments)
            result = job.latest_result(timeout=300)
            if number >= 2:
                latencies.append((result.return_value - begin) / 1e6)
        rates = []
        for _ in range(asked["runs"]):
            begin = time.monotonic()
            jobs = [queue.enqueue(function, *arguments) for _ in range(asked["jobs"])]
            for job in jobs:
                job.latest_result(timeout=300)
            rates.append(asked["jobs"] / (time.monotonic() - begin))
        told.append({"subject": subject, "latencies": latencies, "rates": rates})
    print(json.dumps(told))


if __name__ == "__main__":
    main()
