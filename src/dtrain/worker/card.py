"""What a worker's owner sees of a job before it runs: a card, and on demand all of it.

Every word of it comes from a stranger, so nothing reaches the terminal but printable characters.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence

from rich.box import ASCII, ROUNDED
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dtrain.protocol.messages import BundleEntry
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.worker_messages import Offer

from .console import plain

_LONGEST = 300
"""Characters of one value on the card; the details have all of it."""


def card(offer: Offer, width: int, *, is_plain: bool = False) -> str:
    """Who wants to run what with which means, as text for a terminal of some width.

    Args:
        offer: the job.
        width: columns.
        is_plain: draw the frame with signs that every terminal has.
    """
    spec = offer.spec
    rows = {
        "from": f"{offer.submitter}, as they say" if offer.submitter else "not said",
        "runs": shlex.join([spec.main_entry, *spec.args]),
        "in": _surroundings(spec),
        "needs": _needs(spec),
        "time limit": duration(spec.time_limit) if spec.time_limit else "none",
    }
    if spec.tags:
        rows["tags"] = ", ".join(spec.tags)
    if offer.retry_of is not None:
        rows["retry of"] = f"job {offer.retry_of}"
    rows |= {
        "bundle": f"{size(offer.bundle.size)} in {_count(offer.bundle.files, 'file')}",
        "SHA-256": offer.bundle.sha256,
        "waiting": f"for {duration(offer.age)}",
    }
    title = Text(_short(f" Job {offer.job_id}: {spec.name} "), style="bold")
    box = ASCII if is_plain else ROUNDED
    panel = Panel(_table(rows, short=True), title=title, title_align="left", box=box)
    return "\n" + _rendered(panel, width)


def details(offer: Offer, width: int) -> str:
    """All that the submitter said about a job, as text for a terminal of some width."""
    spec = offer.spec
    rows = {
        "name": spec.name,
        "main_entry": spec.main_entry,
        "args": shlex.join(spec.args) or "none",
        "requirements": spec.requirements_file or "none",
        "python": spec.python or "the worker's own",
        "executor": spec.executor,
        "image": spec.image or "none",
        "env": ", ".join(f"{key}={value}" for key, value in spec.env.items()) or "none",
        "labels": ", ".join(f"{key}={value}" for key, value in spec.labels.items()) or "none",
        "tags": ", ".join(spec.tags) or "none",
        "priority": str(spec.priority),
        "max_retries": str(spec.max_retries),
        "on_partition": spec.on_partition,
    }
    return _rendered(_table(rows, short=False), width)


def files(entries: Sequence[BundleEntry], width: int) -> str:
    """Files of a bundle with their sizes, as text for a terminal of some width."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        table.add_row(Text(size(entry.size)), Text(_short(entry.path, "…")))
    return _rendered(table, width)


def end_of(text: str, width: int) -> str:
    """As much of the end of a text as fits into so many columns."""
    while cell_len(text) > width:
        text = text[1:]
    return text


def _surroundings(spec: JobSpec) -> str:
    if spec.image:
        return f"a container of {spec.image}"
    python = f"Python {spec.python}" if spec.python else "this worker's Python"
    if spec.requirements_file:
        return (
            f"an environment of {python} with what {spec.requirements_file} names, if it is there"
        )
    return f"an environment of {python} without requirements"


def _needs(spec: JobSpec) -> str:
    needs = []
    if spec.cpus is not None:
        needs.append(f"{spec.cpus:g} CPUs")
    if spec.memory_gb is not None:
        needs.append(f"{spec.memory_gb:g} GB of memory")
    if spec.gpus:
        needs.append(_count(spec.gpus, "GPU"))
    return ", ".join(needs) or "nothing set aside"


def _table(rows: dict[str, str], *, short: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name), Text(_short(value) if short else plain(value)))
    return table


def _rendered(what: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=width, highlight=False).print(what)
    return out.getvalue()


def _short(value: str, rest: str = "… (all of it: ?)") -> str:
    shown = plain(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}{rest}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Bytes for people, in units of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def duration(seconds: float) -> str:
    """A length of time for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"
