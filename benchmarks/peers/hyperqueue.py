"""HyperQueue: programs as tasks of a local cluster, which its Python package brings."""

from __future__ import annotations

from benchmarks.place import Place

from .figures import Counts, Figures, driven, has_package

NAME = "HyperQueue"


def is_here() -> bool:
    """Whether it is installed."""
    return has_package("hyperqueue")


def figures(place: Place, counts: Counts) -> list[Figures]:
    """A local cluster keeps no journal: nothing of it outlives its process."""
    return driven("hyperqueue_driver", place.new_folder("hyperqueue"), counts)
