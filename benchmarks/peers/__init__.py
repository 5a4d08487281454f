"""The peers: what else runs jobs, each on this machine and as its own documents advise.

A peer is a module with three names: `NAME`, `is_here()` and `figures(place, counts)`. What needs
the peer's own packages is a driver, a script that runs in the environment of the peers.
"""

from __future__ import annotations

from typing import Protocol

from benchmarks import submit_latency, throughput
from benchmarks.place import Place
from benchmarks.report import Report, say

from . import hyperqueue, ray, rq, slurm
from .figures import Counts, Figures


class Peer(Protocol):
    """What each of the modules is."""

    NAME: str

    def is_here(self) -> bool:
        """Whether it is installed."""

    def figures(self, place: Place, counts: Counts) -> list[Figures]:
        """Start it, measure it, end it."""


PEERS: list[Peer] = [rq, hyperqueue, slurm, ray]


def measure(place: Place, report: Report) -> None:
    """The first line of a job's code, and many short jobs, of each peer that is here."""
    for peer in PEERS:
        if not peer.is_here():
            report.leave_out(peer.NAME, "it is not installed; `make bench-peers` brings it.")
            continue
        counts = Counts(
            latencies=place.pick(20, 100, trial=5),
            jobs=throughput.jobs(place),
            runs=place.pick(2, 3, trial=1),
        )
        say(f"    {peer.NAME} …")
        report.machine(f"before {peer.NAME}")
        try:
            found = peer.figures(place, counts)
        except Exception as error:  # one peer that fails takes no other with it
            report.fail(peer.NAME, error)
            continue
        for figures in found:
            subject = figures.subject
            report.add(submit_latency.MEASURE, subject, "ms", figures.latencies, role="peer")
            report.add(throughput.MEASURE, subject, "jobs/s", figures.rates, role="peer")
