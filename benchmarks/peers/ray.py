"""Ray: jobs of its Jobs API, each a script with a driver of its own."""

from __future__ import annotations

from benchmarks.place import Place

from .figures import Counts, Figures, driven, has_package

NAME = "Ray"
_FEWER = 10
"""A Ray job takes seconds: so many times fewer are run."""


def is_here() -> bool:
    """Whether it is installed, with what its Jobs API needs."""
    return has_package("ray") and has_package("aiohttp")


def figures(place: Place, counts: Counts) -> list[Figures]:
    """A head node on this machine."""
    fewer = Counts(latencies=max(counts.latencies // _FEWER, 3), jobs=counts.jobs // _FEWER, runs=1)
    return driven("ray_driver", place.new_folder("ray"), fewer)
