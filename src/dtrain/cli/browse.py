"""`dtrain open`."""

from __future__ import annotations

import webbrowser

import click

from dtrain.client.client import Client

from .arguments import JobId
from .connection import asks_server


@click.command("open")
@click.argument("job_id", metavar="[ID]", type=JobId(), required=False)
@asks_server
def open_page(client: Client, job_id: int | None) -> None:
    """Open a job's page in the browser, or the dashboard; print its address."""
    address = client.url if job_id is None else client.page(client.jobs.get(job_id).id)
    click.echo(address)
    webbrowser.open(address)
