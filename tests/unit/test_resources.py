from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dtrain.protocol.resources import (
    Capacity,
    Gpu,
    Request,
    fits,
    free_of,
    request_of,
    shortfalls,
    version_ranges,
)
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Executor

GIGABYTE = 1024**3
GPU = Gpu(index=0, uuid="GPU-0", name="H200", memory=139 * GIGABYTE)
CAPACITY = Capacity(
    slots=2,
    cpus=8,
    memory=16 * GIGABYTE,
    executors=[Executor.VENV],
    gpus=[GPU],
    labels={"site": "north"},
    pythons=["3.11.7", "3.12.1"],
    fetchable_pythons=["3.13.2-5", "3.13.0", "3.8.20"],
)


def lacking(request: Request, *taken: Request) -> list[tuple[str, bool]]:
    found = shortfalls(request, CAPACITY, free_of(CAPACITY, list(taken)))
    return [(short.what, short.lasting) for short in found]


@pytest.mark.parametrize(
    ("request_", "missing"),
    [
        (Request(), []),
        (Request(cpus=8, memory=16 * GIGABYTE, gpus=1, labels={"site": "north"}), []),
        (Request(cpus=8.5), [("cpus", True)]),
        (Request(memory=17 * GIGABYTE), [("memory", True)]),
        (Request(gpus=2), [("gpus", True)]),
        (Request(labels={"site": "south"}), [("labels", True)]),
        (Request(labels={"rack": "1"}), [("labels", True)]),
        (Request(executor=Executor.DOCKER), [("executor", True)]),
        (Request(image="python:3.9-slim"), [("executor", True)]),
        (Request(image="python:3.9-slim", python="3.2"), [("executor", True)]),
        (Request(python="3.11"), []),
        (Request(python="3"), []),
        (Request(python="3.1"), [("python", True)]),
        (Request(python="3.9"), [("python", True)]),
        (Request(python="3.13"), []),
        (Request(python="3.13.0"), []),
        (Request(python="3.13.1"), [("python", True)]),
        (Request(python="3.13.2"), []),
        (Request(python="3.13.5"), []),
        (Request(python="3.13.6"), [("python", True)]),
        (Request(python="3.8.20"), []),
        (Request(python="3.8.2"), [("python", True)]),
        (Request(python="2.13.2"), [("python", True)]),
        (Request(python=f"3.13.{'9' * 5000}"), [("python", True)]),
    ],
)
def test_what_an_idle_worker_lacks_it_lacks_for_good(
    request_: Request, missing: list[tuple[str, bool]]
) -> None:
    assert lacking(request_) == missing


def test_what_is_taken_is_lacking_for_a_while() -> None:
    other = Request(cpus=6, memory=10 * GIGABYTE, gpus=1)
    assert lacking(other, other) == [("cpus", False), ("memory", False), ("gpus", False)]
    assert lacking(Request(), Request(), Request()) == [("slots", False)]


def test_request_is_what_a_spec_sets_aside() -> None:
    spec = JobSpec(name="x", cpus=2, memory_gb=0.5, gpus=1, labels={"a": "b"}, python="3.12")
    assert request_of(spec) == Request(
        cpus=2, memory=GIGABYTE // 2, gpus=1, labels={"a": "b"}, python="3.12"
    )
    assert fits(request_of(JobSpec(name="x")), CAPACITY, free_of(CAPACITY, []))


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7]), max_size=40))
def test_fractions_of_processors_add_up(parts: list[float]) -> None:
    """Ten tenths are one, however they are written in binary."""
    taken: list[Request] = []
    capacity = Capacity(slots=100, cpus=1, memory=0, executors=[Executor.VENV])
    for cpus in parts:
        if fits(Request(cpus=cpus), capacity, free_of(capacity, taken)):
            taken.append(Request(cpus=cpus))
    assert round(sum(request.cpus for request in taken), 6) <= 1
    if parts == [0.1] * 10:
        assert len(taken) == 10


def test_versions_without_a_gap_are_one_range() -> None:
    versions = ["3.9.10", "3.12.0", "3.12.1", "3.12.10", "3.12.2", "3.12.2", "3.9.9"]
    assert version_ranges(versions) == ["3.12.10", "3.12.0-2", "3.9.9-10"]
    assert version_ranges([]) == []


@given(st.lists(st.tuples(st.integers(7, 9), st.integers(0, 20)), max_size=30))
def test_ranges_offer_exactly_the_versions_in_them(parts: list[tuple[int, int]]) -> None:
    versions = [f"3.{minor}.{patch}" for minor, patch in parts]
    capacity = replace(CAPACITY, pythons=[], fetchable_pythons=version_ranges(versions))
    free = free_of(capacity, [])
    for minor in range(7, 10):
        for patch in range(22):
            wanted = f"3.{minor}.{patch}"
            assert fits(Request(python=wanted), capacity, free) == (wanted in versions)


def test_explanation_names_what_is_there_and_what_could_be_fetched() -> None:
    (short,) = shortfalls(Request(python="3.2"), CAPACITY, free_of(CAPACITY, []))
    assert short.has == "3.11.7, 3.12.1; can fetch 3.13.2-5, 3.13.0, 3.8.20"
