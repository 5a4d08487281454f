"""`dtrain metrics`."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import click
import msgspec

from dtrain.client.client import Client
from dtrain.client.columns import STEP, Columns, columns_of
from dtrain.protocol.bundlepaths import shown
from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import MetricRecord
from dtrain.protocol.progress import AXES

from . import output
from .arguments import JobId, as_json
from .connection import asks_server
from .tables import Column, Table

_LINE = 24
"""Columns of a line of blocks."""
_BLOCKS = "▁▂▃▄▅▆▇█"


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@click.option("-k", "--key", "keys", multiple=True, help="Only what has this name.")
@click.option("--attempt", type=click.IntRange(1), help="An earlier attempt; else the latest.")
@click.option("--csv", "as_csv", is_flag=True, help="For programs: all records as CSV.")
@as_json("all records")
@asks_server
def metrics(
    client: Client,
    job_id: int,
    keys: tuple[str, ...],
    attempt: int | None,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show what a job has measured: for each name the last value, the bounds, and the course."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two forms of the same: give one of them.")
    records = [_only(record, keys) for record in client.jobs.records(job_id, attempt=attempt)]
    columns = columns_of(records)
    for key in keys:
        if key not in columns:
            raise NotFound(f"Job {job_id} has measured no {shown(key)}.")
    if as_json:
        output.print_json(records)
    elif as_csv:
        _print_csv(columns)
    elif records:
        _print(columns, keys)
    else:
        click.echo(f"Job {job_id} has measured nothing yet.", err=True)


def line(values: Sequence[float], width: int = _LINE) -> str:
    """The course of numbers as a line of blocks, oldest first; a blank where there is none."""
    if len(values) > width:
        bounds = [place * len(values) // width for place in range(width + 1)]
        parts = [values[start:end] for start, end in pairwise(bounds)]
        values = [_mean(part) for part in parts]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    return "".join(_block(value, low, high) for value in values)


def _block(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    # Halves, since the difference of two large numbers may be none.
    part = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
    return _BLOCKS[min(int(part * len(_BLOCKS)), len(_BLOCKS) - 1)]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(value / len(finite) for value in finite) if finite else math.nan


def _only(record: MetricRecord, keys: Sequence[str]) -> MetricRecord:
    if not keys:
        return record
    kept = {name: value for name, value in record.values.items() if name in keys}
    return msgspec.structs.replace(record, values=kept)


def _print(columns: Columns, keys: Sequence[str]) -> None:
    table = Table(
        Column("NAME", flexible=True),
        Column("LAST", right=True),
        Column("LEAST", right=True, spare=2),
        Column("MOST", right=True, spare=2),
        Column("RECORDS", right=True, spare=3),
        Column("COURSE", spare=1),
    )
    for name, column in columns.items():
        if name in AXES and name not in keys:
            continue
        values = [value for value in column if value is not None]
        numbers = [float(value) for value in values if _is_number(value)]
        finite = [value for value in numbers if not math.isnan(value)]
        table.add(
            name,
            _value(values[-1]) if values else "",
            _value(min(finite)) if finite else "",
            _value(max(finite)) if finite else "",
            str(len(values)),
            line(numbers) if _can_show(_BLOCKS) else "",
        )
    table.show()
    counted = ", ".join(f"{name} {_value(columns[name][-1])}" for name in _axes(columns))
    click.echo(f"At {counted}.", err=True)


def _axes(columns: Columns) -> list[str]:
    return [name for name in islice(columns, 1, None) if name in AXES] or [STEP]


def _print_csv(columns: Columns) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    click.echo(text.getvalue(), nl=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _can_show(text: str) -> bool:
    """Whether the terminal has the letters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
