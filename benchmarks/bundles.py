"""A large bundle to the server and back."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import dtrain

from .floor import DOWN, UP, copy_seconds, curl_seconds
from .place import Place
from .report import Report
from .table import Target

_MEGABYTE = 1024 * 1024
_OF_FLOOR = Target(of_floor=0.6)


def measure(place: Place, report: Report) -> None:
    """Both ways with everything checked and kept; beside cp with fsync and sha256sum, and curl."""
    size = place.pick(128, 1024)
    count = 3
    source = _bundle(place.new_folder("source") / "large.zip", size)
    kept = place.new_folder("kept")
    copies, ups, downs = [], [], []
    with place.server() as server, dtrain.Client(server.url) as client:
        for number in range(count):
            copies.append(size / copy_seconds(source, kept / "copy"))
            begin = time.perf_counter()
            job = client.submit(source)
            ups.append(size / (time.perf_counter() - begin))
            target = kept / f"{number}.zip"
            begin = time.perf_counter()
            client.jobs.save_bundle(job.id, target)
            downs.append(size / (time.perf_counter() - begin))
            target.unlink()
            client.jobs.delete(job.id)
            source = _bundle(source, size)  # another one, which the server has not
    for way, rates in ((UP, ups), (DOWN, downs)):
        measure_name = f"{way}, {size} MiB"
        report.add(measure_name, "DTrain, Python client", "MiB/s", rates, target=_OF_FLOOR)
        report.add(measure_name, "cp, fsync, sha256sum", "MiB/s", copies, role="floor")
    rates = [size / seconds for seconds in curl_seconds(place, source, count)]
    report.add(f"{DOWN}, {size} MiB", "curl from http.server", "MiB/s", rates, role="floor")


def _bundle(path: Path, megabytes: int) -> Path:
    """A ZIP with a script and so much that cannot be compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("main.py", "print('ok')\n")
        with archive.open("weights.bin", "w", force_zip64=True) as member:
            for _ in range(megabytes):
                member.write(os.urandom(_MEGABYTE))
    return path
