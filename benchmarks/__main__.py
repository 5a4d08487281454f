"""Measure DTrain, the floor of this machine and the peers that are here: `make bench`.

    make bench                              in a quarter of an hour, in middling sizes
    make bench ARGS="--trial"               in five minutes, with few samples and small sizes
    make bench ARGS="--long"                in full: a million lines, jobs, points
    make bench ARGS="--only live_log"       one measurement; may be repeated

The table goes to stdout, and with the raw samples to benchmarks/results/. Everything that is
measured runs as real processes with real durability, the workers with the best isolation that the
machine has.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dtrain import __version__

from . import (
    bundles,
    first_paint,
    fleet,
    idle,
    large_queue,
    live_log,
    log_ingest,
    log_reading,
    machine,
    metrics,
    peers,
    submit_latency,
    throughput,
)
from .place import Form, Place
from .report import Report, say
from .samples import summary
from .table import document, markdown, number

HERE = Path(__file__).parent
MEASUREMENTS: dict[str, Callable[[Place, Report], None]] = {
    "submit_latency": submit_latency.measure,
    "throughput": throughput.measure,
    "peers": peers.measure,
    "live_log": live_log.measure,
    "log_ingest": log_ingest.measure,
    "log_reading": log_reading.measure,
    "metrics": metrics.measure,
    "bundles": bundles.measure,
    "idle": idle.measure,
    "first_paint": first_paint.measure,
    "fleet": fleet.measure,
    "large_queue": large_queue.measure,
}


def main() -> int:
    """Measure, and print the table, also of a run that is broken off.

    The exit status is 1 where something could not be measured.
    """
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by SIGTERM."))
    started = datetime.datetime.now(datetime.UTC)
    report = Report(HERE / "results" / started.strftime("%Y-%m-%d-%H%M%S"))
    facts = _facts(started, options.form)
    begin = time.monotonic()
    try:
        for name in options.only or MEASUREMENTS:
            say(f"{name} …")
            report.machine(f"before {name}")
            _measure(name, report, options)
    except (KeyboardInterrupt, SystemExit):
        report.fail("the rest", RuntimeError("the run was broken off."))
    report.machine("at the end")
    facts |= _course(report, time.monotonic() - begin)
    table = markdown(report.rows, facts, report.failures, report.left_out)
    (report.folder / "table.md").write_text(table)
    told = document(report.rows, facts, report.failures, report.left_out)
    (report.folder / "table.json").write_text(json.dumps(told, indent=2) + "\n")
    sys.stdout.write(table)
    say(f"Kept in {report.folder}")
    return 1 if report.failures else 0


def _measure(name: str, report: Report, options: argparse.Namespace) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    folder.chmod(0o755)
    begin = time.monotonic()
    try:
        MEASUREMENTS[name](Place(folder, options.form), report)
    except Exception as error:  # one measurement that fails takes no other with it
        report.fail(name, error)
        for output in folder.glob("*/*.log"):
            shutil.copy(output, report.folder / f"{name}-{output.parent.name}-{output.name}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"    {time.monotonic() - begin:.0f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    forms = parser.add_mutually_exclusive_group()
    for form, meaning in (
        ("long", "everything in full size"),
        ("trial", "few samples and small sizes of everything, in five minutes"),
    ):
        forms.add_argument(f"--{form}", action="store_const", const=form, dest="form", help=meaning)
    parser.set_defaults(form="short")
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, help="this alone; may be repeated"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=HERE.parent / ".cache" / "bench",
        help="where servers and workers keep their data: on the disk that counts",
    )
    return parser.parse_args()


def _facts(started: datetime.datetime, form: Form) -> dict[str, str]:
    return {
        "DTrain": f"{__version__}, Python {platform.python_version()}",
        "machine": machine.description(),
        "date": f"{started:%Y-%m-%d}, {form} form",
        "load average at the start": machine.load(),
    }


def _course(report: Report, seconds: float) -> dict[str, str]:
    """What can be said at the end alone."""
    loops = summary(report.loops)
    return {
        "load average at the end": machine.load(),
        machine.LOOP: f"median {number(loops.median)} ms,"
        f" {number(min(report.loops))} – {number(max(report.loops))} ms;"
        f" {machine.USUAL} ms is usual on an idle machine",
        "took": f"{seconds / 60:.1f} minutes",
    }


if __name__ == "__main__":
    sys.exit(main())
