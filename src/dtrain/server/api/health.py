"""For those who watch the server: is it there, can it work, how is it doing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flask import Flask, Response, current_app
from msgspec.structs import asdict
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from dtrain.protocol import routes
from dtrain.server import workers
from dtrain.server.auth import services
from dtrain.server.jobs import listing
from dtrain.server.services import Services

from .endpoint import TEXT, Endpoints
from .held import Held, held

api = Endpoints("", "The server", "For those who watch it, and for programs that read about it.")
LOG_BYTES = Counter("dtrain_log_bytes", "Log bytes taken from workers", registry=None)
STATES = ("online", "draining", "offline")
_PLAIN = "text/plain; charset=utf-8"
_REGISTRY = "dtrain.metrics"


class _State(Collector):
    """What the database and the gates say at the moment of asking."""

    def __init__(self, parts: Services, gates: Held) -> None:
        self._services = parts
        self._gates = gates

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering it does not ask the database

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("dtrain_jobs", "Jobs by status", labels=["status"])
        for status, number in asdict(listing.counts(self._services)).items():
            jobs.add_metric([status], number)
        yield jobs
        states = [worker.state for worker in workers.listing(self._services).workers]
        found = GaugeMetricFamily("dtrain_workers", "Workers by state", labels=["state"])
        for state in STATES:
            found.add_metric([state], states.count(state))
        yield found
        for name, words, gate in (
            ("dtrain_held_polls", "Polls of workers that wait", self._gates.polls),
            ("dtrain_streams", "Live streams that are open", self._gates.streams),
        ):
            yield GaugeMetricFamily(name, words, gate.inside)


@api("GET", routes.HEALTHZ, summary="Is the server there?", answer=TEXT)
def healthz() -> Response:
    """`ok`, from a server that answers at all; for everyone who can reach it."""
    return Response("ok\n", content_type=_PLAIN)


@api("GET", routes.READYZ, summary="Can the server work?", answer=TEXT)
def readyz() -> Response:
    """`ready`, from a server whose database answers."""
    listing.page(services(), limit=1)
    return Response("ready\n", content_type=_PLAIN)


@api("GET", routes.METRICS, summary="How is the server doing?", answer=TEXT)
def metrics() -> Response:
    """Jobs, workers, streams and the process in Prometheus' text format."""
    registry: CollectorRegistry = current_app.extensions[_REGISTRY]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def install(app: Flask, parts: Services) -> None:
    """Give the application what `/metrics` tells."""
    registry = CollectorRegistry()
    registry.register(_State(parts, held(app)))
    registry.register(LOG_BYTES)
    ProcessCollector(registry=registry)
    app.extensions[_REGISTRY] = registry
