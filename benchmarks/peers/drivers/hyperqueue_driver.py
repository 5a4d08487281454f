"""Measures HyperQueue; runs in the environment of the peers."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main() -> None:
    """Print the figures: each job has one task, and is handed in by itself."""
    asked = json.loads(sys.argv[1])
    folder = Path(asked["folder"])
    server = folder / "server"
    server.mkdir(exist_ok=True)

    def job(output: Path) -> Job:
        made = Job()
        command = [asked["python"], asked["script"]]
        made.program(command, stdout=str(output), stderr=str(folder / "errors"))
        return made

    with LocalCluster(str(server), WorkerConfig(cores=asked["at_once"])) as cluster:
        client = cluster.client()
        latencies = []
        for number in range(asked["latencies"] + 2):
            output = folder / f"output-{number}"
            begin = time.monotonic_ns()
            client.wait_for_jobs([client.submit(job(output))])
            if number >= 2:
                latencies.append((int(output.read_text()) - begin) / 1e6)
        rates = []
        for run in range(asked["runs"]):
            begin = time.monotonic()
            handed = [
                client.submit(job(folder / f"run-{run}-{number}"))
                for number in range(asked["jobs"])
            ]
            client.wait_for_jobs(handed)
            rates.append(asked["jobs"] / (time.monotonic() - begin))
    subject = "HyperQueue, in memory"
    print(json.dumps([{"subject": subject, "latencies": latencies, "rates": rates}]))


if __name__ == "__main__":
    main()
