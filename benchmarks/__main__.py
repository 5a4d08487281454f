"""Measure DTrain, the floor of this machine and the peers that are here: `make bench`.

    make bench                              a short form of what takes no large preparation
    make bench ARGS="--long"                all of it, in full
    make bench ARGS="--only live_log"       one measurement; may be repeated
    make bench ARGS="--trial"               a few samples of everything, to see that it works

The table goes to stdout, and with the raw samples to benchmarks/results/. Everything that is
measured runs as real processes with real durability, the workers with the best isolation that the
machine has.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dtrain import __version__

from . import (
    bundles,
    fleet,
    floor,
    idle,
    large_queue,
    live_log,
    log_ingest,
    log_reading,
    metrics,
    peers,
    submit_latency,
    throughput,
)
from .place import Form, Place
from .report import Report, say
from .table import document, markdown

HERE = Path(__file__).parent
MEASUREMENTS: dict[str, Callable[[Place, Report], None]] = {
    "floor": floor.measure,
    "submit_latency": submit_latency.measure,
    "throughput": throughput.measure,
    "peers": peers.measure,
    "live_log": live_log.measure,
    "log_ingest": log_ingest.measure,
    "log_reading": log_reading.measure,
    "metrics": metrics.measure,
    "bundles": bundles.measure,
    "idle": idle.measure,
    "fleet": fleet.measure,
    "large_queue": large_queue.measure,
}
ONLY_LONG = {"fleet", "large_queue"}
"""What the short form leaves out: their preparation alone takes minutes."""


def main() -> int:
    """Measure, and print the table; the exit status is 1 where something could not be measured."""
    options = _options()
    chosen = options.only or [
        name for name in MEASUREMENTS if options.form != "short" or name not in ONLY_LONG
    ]
    started = datetime.datetime.now(datetime.UTC)
    report = Report(HERE / "results" / started.strftime("%Y-%m-%d-%H%M%S"))
    facts = _facts(started, options.form)
    for name in chosen:
        say(f"{name} …")
        _measure(name, report, options)
    facts["load average at the end"] = _load()
    table = markdown(report.rows, facts, report.failures)
    (report.folder / "table.md").write_text(table)
    told = document(report.rows, facts, report.failures)
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
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"    {time.monotonic() - begin:.0f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    forms = parser.add_mutually_exclusive_group()
    for form, meaning in (
        ("long", "all of it, in full"),
        ("trial", "a few samples of everything, to see that it works"),
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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return {
        "DTrain": f"{__version__}, Python {platform.python_version()}",
        "machine": f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory:.0f} GiB,"
        f" Linux {platform.release()}",
        "date": f"{started:%Y-%m-%d}, {form} form",
        "load average at the start": _load(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
