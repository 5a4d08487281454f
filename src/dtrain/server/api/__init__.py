"""The HTTP API: each function reads a request, calls a use case and writes its answer."""

from __future__ import annotations

from flask import Flask

from dtrain.server.services import Services

from . import about, health, held, jobs, logs, results, stream, worker, workers

GROUPS = (
    jobs.api,
    logs.api,
    results.api,
    stream.api,
    workers.api,
    health.api,
    worker.api,
)
"""All endpoints of the API."""


def register(app: Flask, services: Services) -> None:
    """Add every address of the API to the application."""
    held.install(app, services.settings)
    health.install(app, services)
    about.install(app, GROUPS, services.settings)
    for group in GROUPS:
        group.register(app)
