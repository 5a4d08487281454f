"""`dtrain jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import click

from dtrain.client.client import Client
from dtrain.client.jobs import PAGE
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Status

from . import describe, output
from .arguments import WorkerName, as_json
from .connection import asks_server
from .tables import STYLES, Column, Table, cell


@click.command()
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in Status]),
    multiple=True,
    help="Only jobs of this status, or of one of those.",
)
@click.option("--tag", "tags", multiple=True, help="Only jobs with this tag, and with each other.")
@click.option("--worker", type=WorkerName(), help="Only jobs on the worker of this name or id.")
@click.option("--submitter", metavar="NAME", help="Only jobs that this person has handed in.")
@click.option("-q", "--query", metavar="TEXT", help="Only jobs whose name holds this text.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@as_json("a list of jobs")
@asks_server
def jobs(
    client: Client,
    statuses: tuple[str, ...],
    tags: tuple[str, ...],
    worker: str | None,
    submitter: str | None,
    query: str | None,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """List the jobs, newest first."""
    every = client.jobs.iterate(
        page=min(limit + 1, PAGE),
        status=statuses,
        tag=tags,
        worker=worker,
        submitter=submitter,
        q=query,
    )
    found = list(islice(every, limit + 1))
    if as_json:
        output.print_json(found[:limit])
        return
    _print(found[:limit])
    if len(found) > limit:
        click.echo(f"There are more; see them with --limit {limit * 5}.", err=True)
    elif not found:
        filtered = statuses or tags or worker or submitter or query
        click.echo(
            "No job fits."
            if filtered
            else "There are no jobs yet; hand one in: dtrain submit FOLDER",
            err=True,
        )


def _print(jobs: Sequence[Job]) -> None:
    shown = Table(
        Column("ID", right=True),
        Column("NAME", flexible=True),
        Column("STATUS"),
        Column("DONE", spare=1),
        Column("WORKER", spare=3),
        Column("BY", spare=5),
        Column("SUBMITTED", spare=2),
        Column("TOOK", spare=4),
    )
    for job in jobs:
        shown.add(
            str(job.id),
            job.name,
            cell(describe.state(job), STYLES[job.status]),
            "" if job.fraction is None else f"{job.fraction:.0%}",
            job.worker or "",
            job.submitter or "",
            output.age(job.created_at),
            describe.took(job) or "",
        )
    shown.show()
