"""`dtrain workers`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dtrain.client.client import Client
from dtrain.protocol.messages import Worker

from . import output
from .connection import asks_server
from .tables import cell, console, table

_STYLES = {"online": "green", "draining": "yellow", "offline": "dim"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of workers as JSON.")
@asks_server
def workers(client: Client, *, as_json: bool) -> None:
    """List the workers: what they have, and what they are at."""
    found = client.workers.list()
    if as_json:
        output.print_json(found)
    elif found:
        _print(found)
    else:
        click.echo("There are no workers yet; start one with: dtrain worker", err=True)


def _print(found: Sequence[Worker]) -> None:
    shown = table("NAME", "STATE", "JOBS", "CPU", "MEMORY", "GPUS", "HOST", "SEEN", flexible="HOST")
    for worker in sorted(found, key=lambda worker: (worker.name, worker.id)):
        metrics = worker.metrics
        online = worker.state != "offline"
        used = f"{output.size(metrics.memory_used)} of {output.size(metrics.memory_total)}"
        shown.add_row(
            cell(worker.name),
            cell(worker.state, _STYLES.get(worker.state, "")),
            cell(f"{len(worker.jobs)} of {worker.capacity.slots}"),
            cell(f"{metrics.cpu_percent:.0f} %" if online else ""),
            cell(used if online else ""),
            cell(str(len(worker.capacity.gpus) or "")),
            cell(worker.hostname),
            cell(output.age(worker.last_seen)),
        )
    console().print(shown)
