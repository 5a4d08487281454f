"""Every address of the HTTP API, once, for both sides.

A template names its parts in braces; `path` fills them in. `{path}` may hold slashes.
"""

from __future__ import annotations

from urllib.parse import quote

JOBS = "/api/jobs"
JOB_COUNTS = "/api/jobs/counts"
JOB = "/api/jobs/{job_id}"
JOB_CANCEL = "/api/jobs/{job_id}/cancel"
JOB_RETRY = "/api/jobs/{job_id}/retry"
JOB_EXPLAIN = "/api/jobs/{job_id}/explain"
JOB_EVENTS = "/api/jobs/{job_id}/events"
JOB_LOGS = "/api/jobs/{job_id}/logs"
JOB_LOG_MATCHES = "/api/jobs/{job_id}/logs/matches"
JOB_METRICS = "/api/jobs/{job_id}/metrics"
JOB_USAGE = "/api/jobs/{job_id}/usage"
JOB_STREAM = "/api/jobs/{job_id}/stream"
JOB_BUNDLE = "/api/jobs/{job_id}/bundle"
JOB_BUNDLE_FILES = "/api/jobs/{job_id}/bundle/files"
JOB_BUNDLE_FILE = "/api/jobs/{job_id}/bundle/files/{path}"
JOB_ARTIFACTS = "/api/jobs/{job_id}/artifacts"
JOB_ARTIFACT = "/api/jobs/{job_id}/artifacts/{path}"
JOB_CHECKPOINTS = "/api/jobs/{job_id}/checkpoints"
JOB_CHECKPOINT_FILE = "/api/jobs/{job_id}/checkpoints/{generation}/{path}"
STREAM = "/api/stream"
WORKERS = "/api/workers"
WORKER = "/api/workers/{worker_id}"
WORKER_DRAIN = "/api/workers/{worker_id}/drain"
WORKER_RESUME = "/api/workers/{worker_id}/resume"
WORKER_SAMPLES = "/api/workers/{worker_id}/samples"
WORKER_OFFERS = "/api/workers/{worker_id}/offers"
WORKER_OFFER = "/api/workers/{worker_id}/offers/{job_id}"

# Called by workers alone.
REGISTER = "/api/worker/register"
POLL = "/api/worker/poll"
LEAVE = "/api/worker/leave"
OFFER = "/api/worker/offers/{job_id}"
OFFER_FILES = "/api/worker/offers/{job_id}/files"
PAGE_ANSWER = "/api/worker/answers/{answer_id}"
ATTEMPT_BUNDLE = "/api/worker/attempts/{job_id}/{attempt}/bundle"
ATTEMPT_PHASE = "/api/worker/attempts/{job_id}/{attempt}/phase"
ATTEMPT_LOG = "/api/worker/attempts/{job_id}/{attempt}/log"
ATTEMPT_ARTIFACT = "/api/worker/attempts/{job_id}/{attempt}/artifacts/{path}"
ATTEMPT_CHECKPOINTS = "/api/worker/attempts/{job_id}/{attempt}/checkpoints"
ATTEMPT_CHECKPOINT_CONTENT = "/api/worker/attempts/{job_id}/{attempt}/checkpoints/{sha256}"
ATTEMPT_FINISH = "/api/worker/attempts/{job_id}/{attempt}/finish"

HEALTHZ = "/healthz"
READYZ = "/readyz"
METRICS = "/metrics"
OPENAPI = "/api/openapi.json"
DOCS = "/api/docs"

SECRET_HEADER = "DTrain-Attempt-Secret"  # noqa: S105 – the name of a header, no secret
"""Carries the secret of the attempt that a worker's request is about."""
IDEMPOTENCY_HEADER = "Idempotency-Key"
"""Repeating a submission with the same value gives the first one's job."""
SUBMITTER_HEADER = "DTrain-Submitter"
"""Who says to send a request, percent-encoded; their own word, which nobody proves."""


def path(template: str, **parts: object) -> str:
    """Fill in a template: `path(JOB, job_id=42)` is `/api/jobs/42`."""
    quoted = {
        name: quote(str(value), safe="/" if name == "path" else "") for name, value in parts.items()
    }
    return template.format(**quoted)
