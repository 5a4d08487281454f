"""The HTTP API: each function reads a request, calls a use case and writes its answer."""

from __future__ import annotations

from flask import Flask

from dtrain.server.services import Services

from . import health, held, jobs, logs, openapi, results, stream, worker, workers

_GROUPS = (jobs.api, logs.api, results.api, workers.api, stream.api, worker.api)
ENDPOINTS = tuple(endpoint for group in _GROUPS for endpoint in group.endpoints)
"""All endpoints of the API."""


def register(app: Flask, services: Services) -> None:
    """Add every address of the API to the application."""
    held.install(app, services.settings)
    for group in _GROUPS:
        group.register(app)
    openapi.register(app, ENDPOINTS)
    health.register(app, services)
