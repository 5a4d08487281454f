"""`dtrain wait`."""

from __future__ import annotations

import time

import click

from dtrain.client.client import Client
from dtrain.protocol.messages import Job

from . import describe, output
from .arguments import as_json, job_ids
from .connection import asks_server
from .following import exit_status


@click.command()
@job_ids(ended=False)
@click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(0), help="Wait no longer than this."
)
@as_json("a list of the ended jobs")
@asks_server
def wait(client: Client, job_ids: tuple[int, ...], *, timeout: float | None, as_json: bool) -> None:
    """Wait until jobs have ended; exit 1 unless all have completed."""
    until = None if timeout is None else time.monotonic() + timeout
    ended: list[Job] = []
    for job_id in job_ids:
        left = None if until is None else max(0.0, until - time.monotonic())
        job = client.jobs.wait(job_id, timeout=left)
        ended.append(job)
        if not as_json:
            click.echo(output.clean(f"{describe.ending(job)}."))
    if as_json:
        output.print_json(ended)
    click.get_current_context().exit(exit_status(ended))
