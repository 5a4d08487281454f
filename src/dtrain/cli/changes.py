"""`dtrain cancel`, `dtrain retry` and `dtrain delete`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from dtrain.client.client import Client
from dtrain.protocol.errors import Refused
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Status

from . import output
from .arguments import as_json, each, job_ids
from .connection import asks_server
from .main import REFUSED
from .specs import refuse_both
from .submit import handed_in


@click.command()
@job_ids(ended=False)
@as_json("a list of the jobs")
@asks_server
def cancel(client: Client, job_ids: tuple[int, ...], *, as_json: bool) -> None:
    """Stop jobs: each is told to end, and killed if it does not; cancelled again, at once."""

    def stop(job_id: int) -> Job:
        job = client.jobs.cancel(job_id)
        if not as_json:
            click.echo(_cancelled(job))
        return job

    done, refused = each(job_ids, stop)
    if as_json:
        output.print_json(done)
    if refused:
        click.get_current_context().exit(REFUSED)


@click.command()
@job_ids(ended=True)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Print the logs until they have ended; exit 1 if one fails.",
)
@as_json("a list of the new jobs")
@asks_server
def retry(client: Client, job_ids: tuple[int, ...], *, follow: bool, as_json: bool) -> None:
    """Hand ended jobs in again as they were: each becomes a new job."""
    refuse_both(follow=follow, as_json=as_json)
    made, refused = each(job_ids, client.jobs.retry)
    if as_json:
        output.print_json(made)
    else:
        handed_in(client, made, follow=follow and not refused)
    if refused:
        click.get_current_context().exit(REFUSED)


@click.command()
@job_ids()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@asks_server
def delete(client: Client, job_ids: tuple[int, ...], *, yes: bool) -> None:
    """Forget jobs, their logs and all that they left; what runs is killed."""
    jobs, refused = each(job_ids, client.jobs.get)
    if jobs and not yes:
        _ask(jobs)

    def forget(job: Job) -> None:
        client.jobs.delete(job.id)
        click.echo(f"Job {job.id} is deleted.")

    _, failed = each(jobs, forget)
    if refused or failed:
        click.get_current_context().exit(REFUSED)


def _ask(jobs: Sequence[Job]) -> None:
    """Have a person agree that jobs are deleted.

    Raises:
        Refused: the answer is no, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise Refused(
            "Nobody can be asked here, so nothing is deleted; if it is meant, give --yes."
        )
    for job in jobs:
        click.echo(f"Job {job.id}: {output.clean(job.name)} ({job.status})", err=True)
    if not click.confirm("Delete for ever?", err=True):
        raise Refused("Nothing was deleted.")


def _cancelled(job: Job) -> str:
    if job.status is Status.CANCELLED:
        return f"Job {job.id} is cancelled."
    if job.status.final:
        return f"Job {job.id} had already ended: {job.status}."
    return f"Job {job.id} is being stopped."
