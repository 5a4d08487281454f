from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.resources import Capacity, Gpu, Request, fits, free_of
from dtrain.protocol.states import Executor
from dtrain.server.rules.scheduling import Candidate, Peer, Placement, Waiting, explain, plan

GIB = 1024**3


def worker(name: str = "w", *, gpus: int = 0, declined: int = 0, **capacity: object) -> Candidate:
    fields: dict[str, object] = {
        "slots": 1,
        "cpus": 4.0,
        "memory": 8 * GIB,
        "executors": [Executor.VENV],
        "gpus": [Gpu(index=i, uuid=str(i), name="GPU", memory=GIB) for i in range(gpus)],
        **capacity,
    }
    has = Capacity(**fields)  # type: ignore[arg-type]  # any field of it
    return Candidate(
        worker_id=name, capacity=has, free=free_of(has, []), declined=frozenset({declined})
    )


def job(number: int, priority: int = 0, **request: object) -> Waiting:
    wanted = Request(**request)  # type: ignore[arg-type]  # any field of it
    return Waiting(job_id=number, priority=priority, request=wanted)


def summary(waiting: Waiting, *workers: Candidate, state: str = "online") -> str:
    peers = [Peer(candidate=each, name=each.worker_id, state=state) for each in workers]
    return explain(waiting, 0, peers)[0]


def test_plan_serves_priority_before_age() -> None:
    placed = plan([job(1), job(2), job(3, priority=5)], [worker(slots=2)])
    assert placed == [Placement(3, "w"), Placement(1, "w")]


def test_plan_lets_later_jobs_pass_one_that_fits_nowhere_now() -> None:
    assert plan([job(1, cpus=8.0), job(2)], [worker()]) == [Placement(2, "w")]


def test_plan_honours_labels_declines_gpus_and_executors() -> None:
    assert plan([job(1, labels={"room": "b"})], [worker(labels={"room": "a"})]) == []
    assert plan([job(1)], [worker(declined=1), worker("v")]) == [Placement(1, "v")]
    assert plan([job(1, gpus=2)], [worker(gpus=1), worker("v", gpus=2)]) == [Placement(1, "v")]
    assert plan([job(1, executor=Executor.DOCKER)], [worker()]) == []
    assert plan([job(1, image="python:3.9-slim")], [worker()]) == []


def test_plan_matches_a_python_by_its_leading_numbers() -> None:
    ready = worker(pythons=["3.11.7"])
    assert plan([job(1, python="3.11")], [ready]) == [Placement(1, "w")]
    assert plan([job(1, python="3.1")], [ready]) == []


def test_job_goes_to_a_worker_that_can_fetch_its_python() -> None:
    lacks = worker(pythons=["3.11.7"], fetchable_pythons=["3.12.0-4"])
    fetches = worker("v", pythons=["3.11.7"], fetchable_pythons=["3.12.0-9"])
    assert plan([job(1, python="3.12.7")], [lacks, fetches]) == [Placement(1, "v")]
    assert plan([job(1, python="3.12")], [lacks]) == [Placement(1, "w")]
    assert plan([job(1, python="3.12.10")], [lacks, fetches]) == []
    peer = Peer(candidate=lacks, name="w", state="online")
    said, (fit,) = explain(job(1, python="3.12.7"), 0, [peer])
    assert said == "No worker could run it even when idle: it asks for python 3.12.7."
    assert [short.has for short in fit.shortfalls] == ["3.11.7; can fetch 3.12.0-4"]


@given(
    st.lists(
        st.builds(job, st.integers(1, 50), st.integers(0, 9), cpus=st.floats(0, 6)), max_size=9
    ),
    st.lists(st.integers(0, 3), max_size=4),
)
def test_plan_never_places_more_than_there_is(waiting: list[Waiting], slots: list[int]) -> None:
    unique = list({each.job_id: each for each in waiting}.values())
    requests = {each.job_id: each.request for each in unique}
    workers = [worker(f"w{index}", slots=count) for index, count in enumerate(slots)]
    placed = plan(unique, workers)
    assert len({each.job_id for each in placed}) == len(placed)
    for each in workers:
        taken = [requests[p.job_id] for p in placed if p.worker_id == each.worker_id]
        free = free_of(each.capacity, taken)
        assert free.slots >= 0
        assert free.cpus >= -1e-6
        for left in unique:
            if left.job_id not in {p.job_id for p in placed}:
                assert not fits(left.request, each.capacity, free), "no machine idles in vain"


def test_explain_says_what_would_have_to_change() -> None:
    assert "start one" in summary(job(1))
    assert "cpus 8" in summary(job(1, cpus=8.0), worker())
    assert "room=b" in summary(job(1, labels={"room": "b"}), worker())
    assert "declined" in summary(job(1), worker(declined=1))
    assert "w is offline" in summary(job(1), worker(), state="offline")
    busy = worker(slots=1)
    full = Candidate(
        worker_id="w", capacity=busy.capacity, free=free_of(busy.capacity, [Request()])
    )
    assert "to become free" in summary(job(1), full)
