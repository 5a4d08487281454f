"""`dtrain explain` and `dtrain events`."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.text import Text

from dtrain.client.client import Client
from dtrain.protocol.messages import Event, Explanation

from . import output
from .arguments import JobId, as_json
from .connection import asks_server
from .tables import Column, Table, console


@click.command()
@click.argument("job_id", metavar="ID", type=JobId(ended=False))
@as_json("the explanation")
@asks_server
def explain(client: Client, job_id: int, *, as_json: bool) -> None:
    """Say why a job is where it is, and what keeps it off each worker."""
    found = client.jobs.explain(job_id)
    if as_json:
        output.print_json(found)
        return
    terminal = console()
    terminal.print(Text(output.clean(f"Job {job_id}: {found.summary}")))
    for line in workers(found):
        terminal.print(Text(f"  {line}"))


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@as_json("a list of the events")
@asks_server
def events(client: Client, job_id: int, *, as_json: bool) -> None:
    """List what has happened to a job, oldest first."""
    found = client.jobs.events(job_id)
    if as_json:
        output.print_json(found)
        return
    shown = Table(
        Column("TIME"),
        Column("EVENT"),
        Column("ATTEMPT", right=True, spare=2),
        Column("WORKER", flexible=True, spare=1),
        Column("NOTE", flexible=True, spare=3),
    )
    for event in found:
        attempt, worker = event.data.get("attempt"), event.data.get("worker")
        shown.add(
            output.local(event.at),
            event.kind.replace("_", " "),
            str(attempt) if attempt else "",
            str(worker or ""),
            _note(event),
        )
    shown.show()


def workers(found: Explanation) -> Iterator[str]:
    """For each worker, what keeps a job off it."""
    for fit in found.workers:
        lacks = [f"{each.what} {each.wanted} (has {each.has})" for each in fit.shortfalls]
        declined = f"declined it ({fit.reason})" if fit.reason else "declined it"
        reasons = [declined] if fit.declined else []
        if fit.state != "online":
            reasons.append(fit.state)
        if lacks:
            reasons.append(f"lacks {', '.join(lacks)}")
        yield output.clean(f"{fit.worker}: {'; '.join(reasons) or 'fits'}")


def _note(event: Event) -> str:
    by = event.data.get("by")
    parts = (event.data.get("reason"), event.data.get("message"), by and f"by {by}")
    return ": ".join(str(part) for part in parts if part)
