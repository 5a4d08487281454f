"""Workers, as people look after them."""

from __future__ import annotations

from dtrain.protocol import routes
from dtrain.protocol.messages import Worker, WorkerList
from dtrain.server import workers
from dtrain.server.auth import services

from .endpoint import Endpoints

api = Endpoints("workers")


@api("GET", routes.WORKERS, summary="List workers", answer=WorkerList)
def listing() -> WorkerList:
    """All workers."""
    return workers.listing(services())


@api("GET", routes.WORKER, summary="Show a worker", answer=Worker)
def show(worker_id: str) -> Worker:
    """One worker."""
    return workers.get(services(), worker_id)


@api("POST", routes.WORKER_DRAIN, summary="Give a worker nothing new", answer=Worker)
def drain(worker_id: str) -> Worker:
    """Let a worker finish what it runs, and no more."""
    return workers.drain(services(), worker_id)


@api("POST", routes.WORKER_RESUME, summary="Give a drained worker jobs again", answer=Worker)
def resume(worker_id: str) -> Worker:
    """Undo a drain."""
    return workers.resume(services(), worker_id)
