"""Messages of the API as a server would send them."""

from __future__ import annotations

import json
from typing import Any

SHA = "0" * 64


def job(**changes: Any) -> dict[str, Any]:
    """A job that waits, with these changes."""
    return {
        "id": 1,
        "name": "a job",
        "status": "pending",
        "phase": "queued",
        "reason": None,
        "message": None,
        "attempt": 0,
        "worker": None,
        "worker_id": None,
        "progress": None,
        "fraction": None,
        "exit_code": None,
        "signal": None,
        "peak_memory": None,
        "traceback": None,
        "log_bytes": 0,
        "artifacts": 0,
        "cancel_requested": False,
        "retry_of": None,
        "submitter": None,
        "spec": {"name": "a job"},
        "bundle": {"sha256": SHA, "size": 100, "files": 1},
        "created_at": "2026-01-01T10:00:00Z",
        "started_at": None,
        "finished_at": None,
        **changes,
    }


def job_json(**changes: Any) -> bytes:
    """A job as JSON."""
    return json.dumps(job(**changes)).encode()


def worker(**changes: Any) -> dict[str, Any]:
    """A worker that is idle, with these changes."""
    return {
        "id": "0" * 8,
        "name": "worker-1",
        "state": "online",
        "hostname": "host.example",
        "version": "0.1.0",
        "capacity": {"slots": 1, "cpus": 4.0, "memory": 8 * 1024**3, "executors": ["venv"]},
        "metrics": {},
        "jobs": [],
        "asks": False,
        "last_seen": "2026-01-01T10:00:00Z",
        **changes,
    }
