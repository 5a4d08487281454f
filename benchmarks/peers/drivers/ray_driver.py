"""Measures Ray's Jobs API; runs in the environment of the peers."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.job_submission import JobSubmissionClient


def main() -> None:
    """Print the figures: each job is a script that is started as a process."""
    asked = json.loads(sys.argv[1])
    context = ray.init(num_cpus=asked["at_once"], include_dashboard=True, dashboard_port=0)
    client = JobSubmissionClient(f"http://{context.dashboard_url}")
    entry = f"{asked['python']} {asked['script']}"

    def run(_: int) -> float:
        begin = time.monotonic_ns()
        job = client.submit_job(entrypoint=entry)
        while not client.get_job_status(job).is_terminal():
            time.sleep(0.02)
        return (int(client.get_job_logs(job).split()[-1]) - begin) / 1e6

    run(0)
    latencies = [run(number) for number in range(asked["latencies"])]
    rates = []
    for _ in range(asked["runs"]):
        begin = time.monotonic()
        with ThreadPoolExecutor(asked["at_once"]) as pool:
            list(pool.map(run, range(asked["jobs"])))
        rates.append(asked["jobs"] / (time.monotonic() - begin))
    ray.shutdown()
    print(json.dumps([{"subject": "Ray Jobs", "latencies": latencies, "rates": rates}]))


if __name__ == "__main__":
    main()
