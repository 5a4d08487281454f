"""`dtrain logs`."""

from __future__ import annotations

import io
import sys

import click
import msgspec

from dtrain.client.client import Client
from dtrain.protocol.messages import LogLine

from . import output
from .arguments import JobId
from .connection import asks_server
from .following import follow as follow_job

_BLOCK = 64 * 1024
"""Bytes of a log's end that are looked at first."""


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--attempt", type=click.IntRange(1), help="An earlier attempt; else the latest.")
@click.option("--tail", metavar="N", type=click.IntRange(0), help="Only the last N lines.")
@click.option(
    "--level",
    type=click.Choice(["progress", "error", "warning", "info"], case_sensitive=False),
    help="Only lines of this level.",
)
@click.option("-q", "--query", metavar="TEXT", help="Only lines that hold this text.")
@click.option("--json", "as_json", is_flag=True, help="For programs: each line as JSON.")
@asks_server
def logs(
    client: Client,
    job_id: int,
    *,
    follow: bool,
    attempt: int | None,
    tail: int | None,
    level: str | None,
    query: str | None,
    as_json: bool,
) -> None:
    """Print what a job has printed, byte for byte; chosen lines as text."""
    if level or query or as_json:
        if follow or tail is not None:
            raise click.UsageError(
                "--level, --query and --json look through what is there: leave out --follow and"
                " --tail."
            )
        for line in client.jobs.lines(job_id, attempt=attempt, level=level, q=query):
            _print(line, as_json=as_json)
        return
    start = 0
    if tail is not None:
        attempt, start = _tail(client, job_id, attempt, tail)
    if follow:
        follow_job(client, job_id, attempt=attempt, offset=start or None)
        return
    if tail is not None and attempt is None:
        return
    client.jobs.download_log(job_id, sys.stdout.buffer, attempt=attempt, start=start)


def _print(line: LogLine, *, as_json: bool) -> None:
    text = msgspec.json.encode(line).decode() if as_json else output.clean(line.text)
    sys.stdout.write(f"{text}\n")


def _tail(client: Client, job_id: int, attempt: int | None, lines: int) -> tuple[int | None, int]:
    """The attempt, None if there is none yet, and the byte at which its last lines begin."""
    page = client.jobs.logs(job_id, attempt=attempt, limit=1, tail=True)
    end = page.total_bytes
    if lines == 0 or end == 0:
        return page.attempt or None, end
    block = _BLOCK
    while True:
        start = max(0, end - block)
        into = io.BytesIO()
        client.jobs.download_log(job_id, into, attempt=page.attempt, start=start, end=end)
        place = beginning(into.getvalue(), lines)
        if place is not None or start == 0:
            return page.attempt, start + (place or 0)
        block *= 4


def beginning(data: bytes, lines: int) -> int | None:
    """Where the last lines of some bytes begin; None if they hold fewer."""
    place = len(data) - data.endswith(b"\n")
    for _ in range(lines):
        place = data.rfind(b"\n", 0, place)
        if place < 0:
            return None
    return place + 1
