"""`dtrain jobs` and `dtrain cancel`."""

from __future__ import annotations

import click

from dtrain.client.client import Client
from dtrain.protocol.errors import DTrainError
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Status

from . import describe, output
from .connection import JOB_ID, asks_server
from .main import REFUSED
from .output import complain
from .tables import STYLES, cell, console, table

PAGE = 200
"""Jobs asked for at once."""


@click.command()
@click.option("--status", type=click.Choice([status.value for status in Status]))
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--worker", help="Only jobs on the worker of this name.")
@click.option("-q", "--query", metavar="TEXT", help="Only jobs whose name holds this text.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of jobs as JSON.")
@asks_server
def jobs(
    client: Client,
    status: str | None,
    tag: str | None,
    worker: str | None,
    query: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """List the jobs, newest first."""
    found: list[Job] = []
    cursor: str | None = None
    while True:
        page = client.jobs.list(
            status=status,
            tag=tag,
            worker=worker,
            q=query,
            limit=min(limit - len(found), PAGE),
            cursor=cursor,
        )
        found += page.jobs
        cursor = page.next
        if cursor is None or len(found) >= limit:
            break
    if as_json:
        output.print_json(found)
        return
    _print(found)
    if cursor is not None:
        click.echo(f"There are more; see them with --limit {limit * 5}.", err=True)
    elif not found:
        filtered = status or tag or worker or query
        click.echo(
            "No job fits."
            if filtered
            else "There are no jobs yet; hand one in: dtrain submit FOLDER",
            err=True,
        )


@click.command()
@click.argument("job_ids", metavar="ID...", type=JOB_ID, nargs=-1, required=True)
@asks_server
def cancel(client: Client, job_ids: tuple[int, ...]) -> None:
    """Stop jobs: each is told to end, and killed if it does not; cancelled again, at once."""
    refused = False
    for job_id in job_ids:
        try:
            job = client.jobs.cancel(job_id)
        except DTrainError as error:
            refused = True
            complain(error.detail)
            continue
        if job.status is Status.CANCELLED:
            click.echo(f"Job {job_id} is cancelled.")
        elif job.status.final:
            click.echo(f"Job {job_id} had already ended: {job.status}.")
        else:
            click.echo(f"Job {job_id} is being stopped.")
    if refused:
        click.get_current_context().exit(REFUSED)


def _print(jobs: list[Job]) -> None:
    if not jobs:
        return
    shown = table(
        "ID", "NAME", "STATUS", "DONE", "WORKER", "SUBMITTED", "TOOK", flexible="NAME", right=["ID"]
    )
    for job in jobs:
        shown.add_row(
            cell(str(job.id)),
            cell(job.name),
            cell(describe.state(job), STYLES[job.status]),
            cell("" if job.fraction is None else f"{job.fraction:.0%}"),
            cell(job.worker or ""),
            cell(output.age(job.created_at)),
            cell(describe.took(job) or ""),
        )
    console().print(shown)
