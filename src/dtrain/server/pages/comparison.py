"""Jobs side by side: which of their parameters and results differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dtrain.protocol.messages import Job
from dtrain.server.jobs.compare import Compared, Summary

from . import formats
from .contexts import TabState

_MOST_CHARTS = 24
_NUMBER = re.compile(r"-?(?:\d|\.\d)")


@dataclass(frozen=True)
class Row:
    """One parameter of all the jobs."""

    name: str
    cells: list[str | None]
    """By job; None where it has no such parameter."""

    @property
    def differs(self) -> bool:
        """Whether the jobs are not alike in it."""
        return len(set(self.cells)) > 1


@dataclass(frozen=True)
class Result:
    """One series of all the jobs."""

    name: str
    cells: list[Summary | None]
    """By job; None where it has no such series."""

    @property
    def differs(self) -> bool:
        """Whether the jobs did not end at the same value."""
        return len({cell and cell.last for cell in self.cells}) > 1

    @property
    def is_drawn(self) -> bool:
        """Whether a value of it is a number."""
        return any(cell is not None and cell.least is not None for cell in self.cells)

    def mark(self, cell: Summary | None) -> str:
        """`lowest` or `highest`, if the value is that and another job's is not; else nothing."""
        finite = [one.last for one in self.cells if one and not isinstance(one.last, str)]
        if cell is None or isinstance(cell.last, str) or min(finite) == max(finite):
            return ""
        return {min(finite): "lowest", max(finite): "highest"}.get(cell.last, "")


@dataclass(frozen=True)
class CompareContext:
    """`/compare`."""

    now: datetime
    entered: str
    """The numbers of jobs as they stand in the address."""
    compared: list[Compared]
    problem: str | None = None
    """Why there is nothing to be seen."""

    @property
    def tab(self) -> TabState:
        """What the browser's tab says."""
        return TabState(", ".join(f"#{job.id}" for job in self.jobs), "Compare")

    @property
    def jobs(self) -> list[Job]:
        """The jobs, in the order of the address."""
        return [one.job for one in self.compared]

    @property
    def ids(self) -> str:
        """Their numbers, as an address has them."""
        return ",".join(str(job.id) for job in self.jobs)

    def without(self, job: Job) -> str | None:
        """The numbers of the others; None if they would be too few."""
        others = [str(one.id) for one in self.jobs if one.id != job.id]
        return ",".join(others) if len(others) > 1 else None

    @property
    def results(self) -> list[Result]:
        """The series, those that most jobs have first."""
        names = list(dict.fromkeys(name for one in self.compared for name in one.metrics))
        rows = [Result(name, [one.metrics.get(name) for one in self.compared]) for name in names]
        return sorted(rows, key=lambda row: row.cells.count(None))

    @property
    def charts(self) -> list[Result]:
        """The series that are drawn: those of which a value is a number."""
        drawn = [row for row in self.results if row.is_drawn]
        return drawn[:_MOST_CHARTS]

    @property
    def parameters(self) -> list[tuple[str, list[Row]]]:
        """What was said about the jobs, by kind."""
        specs = [job.spec for job in self.jobs]
        kinds = (
            ("Arguments", [named_arguments(spec.args) for spec in specs]),
            ("Environment", [spec.env for spec in specs]),
            ("Spec", [_spec(job) for job in self.jobs]),
        )
        return [(kind, _rows(values)) for kind, values in kinds if any(values)]


def named_arguments(arguments: Iterable[str]) -> dict[str, str]:
    """Arguments of a script by the names of its options; others by their place.

    `--lr=0.1` and `--lr 0.1` are the same; an option that stands alone is `on`, and one that is
    repeated has all its values.
    """
    found: dict[str, list[str]] = {}
    option, places = None, 0
    for argument in arguments:
        is_option = argument.startswith("-") and len(argument) > 1 and not _NUMBER.match(argument)
        if is_option:
            if option is not None:
                found.setdefault(option, []).append("on")
            name, has_value, value = argument.partition("=")
            option = None if has_value else name
            if has_value:
                found.setdefault(name, []).append(value)
        elif option is not None:
            found.setdefault(option, []).append(argument)
            option = None
        else:
            places += 1
            found[f"argument {places}"] = [argument]
    if option is not None:
        found.setdefault(option, []).append("on")
    return {name: ", ".join(values) for name, values in found.items()}


def _spec(job: Job) -> dict[str, str]:
    spec = job.spec
    values = {
        "Bundle": job.bundle.sha256[:12],
        "Entry": spec.main_entry,
        "Requirements": spec.requirements_file,
        "Python": spec.python,
        "Image": spec.image,
        "Executor": None if spec.executor == "auto" else str(spec.executor),
        "Priority": spec.priority and str(spec.priority),
        "CPUs": spec.cpus and formats.number(spec.cpus),
        "Memory": spec.memory_gb and f"{formats.number(spec.memory_gb)} GB",
        "GPUs": spec.gpus and str(spec.gpus),
        "Time limit": spec.time_limit and formats.duration(spec.time_limit),
        "Retries": spec.max_retries and str(spec.max_retries),
        "On partition": None if spec.on_partition == "keep" else str(spec.on_partition),
        "Labels": ", ".join(f"{name}={value}" for name, value in sorted(spec.labels.items())),
        "Tags": ", ".join(sorted(spec.tags)),
    }
    return {name: str(value) for name, value in values.items() if value}


def _rows(values: Sequence[Mapping[str, str]]) -> list[Row]:
    names = dict.fromkeys(name for of_job in values for name in of_job)
    return [Row(name, [of_job.get(name) for of_job in values]) for name in names]
