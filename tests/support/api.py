"""The public API, asked as any HTTP client would."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from .processes import PATIENCE, wait_for

FINAL = {"completed", "failed", "cancelled"}


def get(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The body of an answer; HTTPError if it is a refusal."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        body: bytes = answer.read()
        return body


def get_json(url: str) -> Any:
    """The JSON of an answer."""
    return json.loads(get(url))


def log_of(server: str, job_id: int) -> bytes:
    """The log of a job's latest attempt, as the job wrote it."""
    return get(f"{server}/api/jobs/{job_id}/logs", {"Accept": "text/plain"})


def records_of(server: str, job_id: int) -> list[dict[str, Any]]:
    """The PROGRESS records of a job's latest attempt."""
    records: list[dict[str, Any]] = []
    while True:
        page = get_json(f"{server}/api/jobs/{job_id}/metrics?after={len(records)}")
        records += [record["values"] for record in page["records"]]
        if not page["more"]:
            return records


def wait_for_status(
    server: str, job_id: int, *wanted: str, patience: float = PATIENCE
) -> dict[str, Any]:
    """The job, once it is in one of the statuses; a final one that was not wanted fails."""

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = get_json(f"{server}/api/jobs/{job_id}")
        if job["status"] in wanted:
            return job
        assert job["status"] not in FINAL, f"{job}\n{log_of(server, job_id).decode()[-3000:]}"
        return None

    job = wait_for(look, f"job {job_id} to be {' or '.join(wanted)}", patience=patience)
    assert job is not None
    return job
