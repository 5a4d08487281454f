"""`dtrain workers`, `dtrain drain` and `dtrain resume`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from dtrain.client.client import Client
from dtrain.protocol.messages import Worker

from . import output
from .arguments import WorkerName, as_json, each
from .connection import asks_server
from .main import REFUSED
from .tables import Column, Table, cell

_STYLES = {"online": "green", "draining": "yellow", "offline": "dim"}
_ID = 8
"""Characters of an id that are shown; as many can be typed."""


@click.command()
@as_json("a list of workers")
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


@click.command()
@click.argument("names", metavar="WORKER...", type=WorkerName(), nargs=-1, required=True)
@as_json("a list of the workers")
@asks_server
def drain(client: Client, names: tuple[str, ...], *, as_json: bool) -> None:
    """Have workers, by name or id, finish what they run and take nothing new."""
    _change(client, names, client.workers.drain, "takes nothing new", as_json=as_json)


@click.command()
@click.argument("names", metavar="WORKER...", type=WorkerName(), nargs=-1, required=True)
@as_json("a list of the workers")
@asks_server
def resume(client: Client, names: tuple[str, ...], *, as_json: bool) -> None:
    """Have drained workers, by name or id, take jobs again."""
    _change(client, names, client.workers.resume, "takes jobs", as_json=as_json)


def _change(
    client: Client,
    names: Sequence[str],
    change: Callable[[str], Worker],
    what: str,
    *,
    as_json: bool,
) -> None:
    def act(name: str) -> Worker:
        worker = change(client.workers.find(name).id)
        if not as_json:
            away = "; it is offline now" if worker.state == "offline" else ""
            click.echo(output.clean(f"{worker.name} {what}{away}."))
        return worker

    done, refused = each(names, act)
    if as_json:
        output.print_json(done)
    if refused:
        click.get_current_context().exit(REFUSED)


def _print(found: Sequence[Worker]) -> None:
    shown = Table(
        Column("NAME", flexible=True),
        Column("ID", spare=4),
        Column("STATE"),
        Column("JOBS"),
        Column("CPU", spare=2),
        Column("MEMORY", spare=3),
        Column("GPUS", spare=1),
        Column("ISOLATION", spare=7),
        Column("HOST", flexible=True, spare=6),
        Column("SEEN", spare=5),
    )
    for worker in sorted(found, key=lambda worker: (worker.name, worker.id)):
        metrics = worker.metrics
        online = worker.state != "offline"
        used = f"{output.size(metrics.memory_used)} of {output.size(metrics.memory_total)}"
        shown.add(
            worker.name,
            worker.id[:_ID],
            cell(worker.state, _STYLES.get(worker.state, "")),
            f"{len(worker.jobs)} of {worker.capacity.slots}",
            f"{metrics.cpu_percent:.0f} %" if online else "",
            used if online else "",
            str(len(worker.capacity.gpus) or ""),
            worker.capacity.isolation,
            worker.hostname,
            output.age(worker.last_seen),
        )
    shown.show()
