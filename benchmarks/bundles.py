"""A large bundle to the server and back."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import dtrain

from .floor import copy_seconds, fetch_seconds, static_server
from .place import Place
from .report import Report, say
from .table import Target

_COUNT = 3
_MEGABYTE = 1024 * 1024
_OF_FLOOR = Target(of_floor=0.6)
_COPY = "cp, fsync, sha256sum"


def measure(place: Place, report: Report) -> None:
    """Both ways with everything checked and kept; beside cp with fsync and sha256sum, and curl."""
    size = place.pick(128, 1024, trial=64)
    source = place.new_folder("source") / "large.zip"
    kept = place.new_folder("kept") / "file"
    copies, ups, downs, curls = [], [], [], []
    with (
        place.server() as server,
        dtrain.Client(server.url) as client,
        static_server(place, source.parent) as static,
    ):
        for _ in range(_COUNT):
            _write_bundle(source, size)  # another one, which the server has not
            copies.append(size / copy_seconds(source, kept))
            begin = time.perf_counter()
            job = client.submit(source)
            ups.append(size / (time.perf_counter() - begin))
            begin = time.perf_counter()
            client.jobs.save_bundle(job.id, kept)
            downs.append(size / (time.perf_counter() - begin))
            kept.unlink()
            curls.append(size / fetch_seconds(f"{static}/{source.name}", kept))
            client.jobs.cancel(job.id)
            client.jobs.delete(job.id)
            say("    a bundle has been there and back")
    for way, rates in (("up", ups), ("down", downs)):
        title = f"bundle {way}, {size} MiB"
        report.add(title, "DTrain, Python client", "MiB/s", rates, target=_OF_FLOOR)
        report.add(title, _COPY, "MiB/s", copies, role="floor")
    report.add(title, "curl from http.server, unchecked", "MiB/s", curls, role="floor")


def _write_bundle(path: Path, megabytes: int) -> None:
    """A ZIP with a script and so much that cannot be compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("main.py", "print('ok')\n")
        with archive.open("weights.bin", "w", force_zip64=True) as member:
            for _ in range(megabytes):
                member.write(os.urandom(_MEGABYTE))
