"""Examples for the description of the API: one small training, as all of its addresses show it."""

from __future__ import annotations

from typing import Any

_BUNDLE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_WORKER = "6f1c9a52-0c0f-4c1e-9a39-6d1f0a8c5f1e"
_SPEC: dict[str, Any] = {
    "name": "My Training Job",
    "main_entry": "main.py",
    "args": ["--epochs", "10"],
    "requirements_file": "requirements.txt",
    "python": None,
    "env": {"SEED": "7"},
    "tags": ["digits", "baseline"],
    "priority": 0,
    "cpus": 2.0,
    "memory_gb": 4.0,
    "gpus": 0,
    "labels": {},
    "time_limit": 7200.0,
    "max_retries": 1,
    "on_partition": "keep",
    "image": None,
    "executor": "auto",
}
_JOB: dict[str, Any] = {
    "id": 42,
    "name": "My Training Job",
    "status": "running",
    "phase": "executing",
    "reason": None,
    "message": None,
    "attempt": 1,
    "worker": "worker-1",
    "worker_id": _WORKER,
    "progress": {"epoch": 3, "epochs": 10, "loss": 0.41, "accuracy": 0.87},
    "fraction": 0.3,
    "exit_code": None,
    "signal": None,
    "peak_memory": None,
    "traceback": None,
    "log_bytes": 512,
    "artifacts": 0,
    "cancel_requested": False,
    "retry_of": None,
    "submitter": None,
    "spec": _SPEC,
    "bundle": {"sha256": _BUNDLE, "size": 18432, "files": 4},
    "created_at": "2026-03-01T09:30:00Z",
    "started_at": "2026-03-01T09:30:01Z",
    "finished_at": None,
    "checkpoint": {
        "generation": 3,
        "attempt": 1,
        "files": 1,
        "size": 1048576,
        "taken_at": "2026-03-01T09:31:30Z",
    },
}

FORM: dict[str, Any] = {
    "name": "My Training Job",
    "main_entry": "main.py",
    "requirements_file": "requirements.txt",
    "file": "@my_training_job.zip",
}
"""What a form brings, as curl writes it."""

SCHEMAS: dict[str, Any] = {
    "Submission": {
        "bundle": _BUNDLE,
        "name": "My Training Job, with a smaller step",
        "args": ["--lr", "0.01", "--epochs", "10"],
        "env": {"SEED": "7"},
        "tags": ["digits"],
        "memory_gb": 4,
        "time_limit": "2h",
        "max_retries": 1,
    },
    "Job": _JOB,
    "JobPage": {
        "jobs": [_JOB],
        "next": "AAAAAAAAACo",
    },
    "JobCounts": {"pending": 3, "running": 1, "completed": 37, "failed": 1, "cancelled": 0},
    "Explanation": {
        "summary": "It waits for a worker to become free, with 2 ahead of it.",
        "position": 2,
        "workers": [
            {
                "worker_id": _WORKER,
                "worker": "worker-1",
                "state": "online",
                "declined": False,
                "reason": None,
                "shortfalls": [{"what": "slots", "wanted": "1", "has": "0", "lasting": False}],
            }
        ],
        "retry_in": None,
    },
    "EventList": {
        "events": [
            {
                "id": 101,
                "kind": "submitted",
                "job_id": 42,
                "worker_id": None,
                "at": "2026-03-01T09:30:00Z",
                "data": {"status": "pending", "phase": "queued", "attempt": 0},
            }
        ]
    },
    "LogPage": {
        "attempt": 1,
        "lines": [
            {"number": 0, "level": "INFO", "text": "Starting training job..."},
            {"number": 1, "level": "PROGRESS", "text": 'PROGRESS: {"epoch": 1, "loss": 0.9}'},
        ],
        "next": 2,
        "more": False,
        "total_lines": 2,
        "total_bytes": 61,
    },
    "LogMatches": {
        "attempt": 1,
        "ranges": [[3, 3], [17, 24]],
        "next": 120,
        "more": False,
        "total_lines": 120,
    },
    "MetricPage": {
        "attempt": 1,
        "records": [
            {
                "seq": 0,
                "step": 1.0,
                "at": "2026-03-01T09:30:04Z",
                "values": {"epoch": 1, "loss": 0.9},
            }
        ],
        "next": 1,
        "more": False,
    },
    "ArtifactList": {
        "artifacts": [{"path": "model.pt", "size": 1048576, "sha256": _BUNDLE, "attempt": 1}]
    },
    "CheckpointList": {
        "checkpoints": [
            {
                "generation": 3,
                "attempt": 1,
                "size": 1048576,
                "taken_at": "2026-03-01T09:31:30Z",
                "files": [{"path": "last.pt", "size": 1048576, "sha256": _BUNDLE, "mode": 420}],
            }
        ]
    },
    "BundleContents": {"files": [{"path": "main.py", "size": 812}], "expanded": 812},
    "Problem": {
        "status": 422,
        "code": "entry_missing",
        "title": "Unprocessable Entity",
        "detail": "There is no 'main.py' in the bundle: found 'src/main.py'; set main_entry to it.",
        "field": "main_entry",
    },
}
"""By the name of the schema."""

PARTS: dict[str, Any] = {
    "job_id": 42,
    "attempt": 1,
    "generation": 3,
    "sha256": _BUNDLE,
    "path": "model.pt",
    "worker_id": _WORKER,
}
"""Of addresses, by name."""
