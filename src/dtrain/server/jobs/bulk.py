"""A user wants the same done to several jobs: each is done or refused by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from dtrain.protocol.errors import DTrainError, NotFound
from dtrain.protocol.messages import Job

from . import cancel, read, retry
from .delete import delete

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_JOBS = 500
"""Jobs that are acted on at once at most."""


class Action(StrEnum):
    """What is to be done."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    job_id: int
    name: str
    refused: str | None = None
    """Why nothing was done; None if it was."""
    new_id: int | None = None
    """The number of the job that was queued."""


def act(
    services: Services, action: Action, job_ids: Sequence[int], *, by: str | None, once: str
) -> list[Outcome]:
    """Do it to each job.

    Args:
        services: the server's parts.
        action: what to do.
        job_ids: the jobs' numbers.
        by: who wants it, as far as it is known.
        once: chosen by the client; the same again makes no second job of a retry.
    """
    return [_act(services, action, job_id, by, once) for job_id in dict.fromkeys(job_ids)]


def _act(services: Services, action: Action, job_id: int, by: str | None, once: str) -> Outcome:
    name = ""
    try:
        job = read.get(services, job_id)
        name = job.name
        refused = _refusal(action, job)
        if refused is not None:
            return Outcome(job_id, name, refused)
        if action is Action.RETRY:
            new, _ = retry.retry(services, job_id, by=by, idempotency_key=f"{once}-{job_id}")
            return Outcome(job_id, name, new_id=new.id)
        if action is Action.CANCEL:
            cancel.cancel(services, job_id, by=by)
        else:
            delete(services, job_id)
    except NotFound:
        return Outcome(job_id, name, "There is no such job any more.")
    except DTrainError as error:
        return Outcome(job_id, name, error.detail)
    return Outcome(job_id, name)


def _refusal(action: Action, job: Job) -> str | None:
    if action is Action.RETRY and not job.status.final:
        return f"It is {job.status}; only a job that has ended can be retried."
    if action is Action.CANCEL and job.status.final:
        return f"It has ended already: it is {job.status}."
    if action is Action.CANCEL and job.cancel_requested:
        return "It is being cancelled already; its page can end it at once."
    return None
