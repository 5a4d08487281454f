"""Workers, as people look after them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import request

from dtrain.protocol import routes
from dtrain.protocol.messages import (
    OfferSettled,
    OwnerAnswer,
    Worker,
    WorkerList,
    WorkerSamples,
)
from dtrain.protocol.worker_messages import OfferList
from dtrain.server import consent, workers
from dtrain.server.auth import services

from .endpoint import Endpoints
from .reading import Query

api = Endpoints("workers", "Workers", "The machines that jobs run on.")


class ForgetQuery(Query, frozen=True, kw_only=True):
    """How a worker is forgotten."""

    force: bool = False
    """Also if it has jobs; they are given to others."""


class SamplesQuery(Query, frozen=True, kw_only=True):
    """How many samples are wanted."""

    points: Annotated[int, msgspec.Meta(ge=1, le=workers.MAX_SAMPLES)] = workers.MAX_SAMPLES
    """At most so many; each is the mean of some that follow each other."""


@api("GET", routes.WORKERS, summary="List workers", answer=WorkerList)
def listing() -> WorkerList:
    """All workers that were ever enrolled and not forgotten, by name."""
    return workers.listing(services())


@api("GET", routes.WORKER, summary="Show a worker", answer=Worker)
def show(worker_id: str) -> Worker:
    """One worker, by its id."""
    return workers.get(services(), worker_id)


@api(
    "GET",
    routes.WORKER_SAMPLES,
    summary="Show how busy a worker was",
    query=SamplesQuery,
    answer=WorkerSamples,
)
def samples(worker_id: str, query: SamplesQuery) -> WorkerSamples:
    """The last 24 hours, a sample for each minute in which it was there."""
    return workers.samples(services(), worker_id, points=query.points)


@api("POST", routes.WORKER_DRAIN, summary="Give a worker nothing new", answer=Worker, errors=(507,))
def drain(worker_id: str) -> Worker:
    """Let a worker finish what it runs, and no more."""
    return workers.drain(services(), worker_id)


@api(
    "POST",
    routes.WORKER_RESUME,
    summary="Give a drained worker jobs again",
    answer=Worker,
    errors=(507,),
)
def resume(worker_id: str) -> Worker:
    """Undo a drain."""
    return workers.resume(services(), worker_id)


@api(
    "DELETE",
    routes.WORKER,
    summary="Forget a worker",
    query=ForgetQuery,
    status=204,
    errors=(409, 507),
)
def forget(worker_id: str, query: ForgetQuery) -> None:
    """End its credential."""
    workers.forget(services(), worker_id, force=query.force)


@api("GET", routes.WORKER_OFFERS, summary="List the jobs before a worker's owner", answer=OfferList)
def offers(worker_id: str) -> OfferList:
    """All open offers of a worker."""
    return consent.offers(services(), worker_id)


@api(
    "POST",
    routes.WORKER_OFFER,
    summary="Answer an offer as the worker's owner",
    message=OwnerAnswer,
    answer=OfferSettled,
    errors=(409, 429, 503, 507),
)
def answer_offer(worker_id: str, job_id: int, message: OwnerAnswer) -> OfferSettled:
    """Answered once the worker has acted on it."""
    address = request.remote_addr or ""
    return consent.answer(services(), worker_id, job_id, message, address=address)
