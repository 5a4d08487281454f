"""Containers as the manual has them, from a submission to its outcome, on a real engine."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from support.api import get_json, log_of, records_of, wait_for_status
from support.containers import DOCKERFILE, TestEngine, left_containers
from support.example_job import MAIN, RECORDS, expected_log, zip_of
from support.processes import PATIENCE, RunningServer, RunningWorker, start_worker, wait_for
from urllib3.filepost import encode_multipart_formdata


def submit(server: RunningServer, folder: Path, files: dict[str, str], **fields: str) -> Any:
    path = zip_of(folder / "job.zip", files)
    given = {"name": "My Training Job", "main_entry": "main.py", **fields}
    body, kind = encode_multipart_formdata({**given, "file": (path.name, path.read_bytes())})
    request = urllib.request.Request(f"{server.url}/api/jobs", body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_jobs_of_the_manual_run_in_containers(
    server: RunningServer, worker: RunningWorker, tmp_path: Path, container_engine: TestEngine
) -> None:
    """A worker without containers is there as well, and gets none of what needs one."""
    files = {"main.py": MAIN, "requirements.txt": "# nothing\n"}
    built = submit(server, tmp_path, {**files, "Dockerfile": DOCKERFILE})
    named = submit(server, tmp_path, files, image="python:3.9-slim")
    assert built["spec"]["executor"] == "docker"
    wait_for(lambda: get_json(f"{server.url}/api/workers")["workers"], "a worker")
    for job in (built, named):
        explained = get_json(f"{server.url}/api/jobs/{job['id']}/explain")
        assert explained["summary"].endswith("even when idle: it asks for executor docker.")

    data = tmp_path / "data"
    data.mkdir()
    home = tmp_path / "contained"
    start_worker(
        home,
        server,
        name="worker-2",
        slots=2,
        env={"DOCKER_HOST": f"unix://{container_engine.socket}"},
        docker_enabled=True,
        docker_image_tag="python:3.9-slim",
        docker_volumes=[f"{data}:/container/data"],
        docker_environment=["CUDA_VISIBLE_DEVICES=0"],
        max_memory_gb=1,
        max_cpu_percent=80,
    )
    for job in (built, named):
        ended = wait_for_status(server.url, job["id"], "completed")
        assert ended["worker"] == "worker-2"
        assert log_of(server.url, job["id"]).decode().endswith(expected_log())
        assert records_of(server.url, job["id"]) == RECORDS
    key = (home / "data/worker-2/container_key").read_text()
    assert left_containers(container_engine.engine, key) == []
