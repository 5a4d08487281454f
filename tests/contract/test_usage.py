"""What attempts used of their workers is kept and thinned, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import msgspec
import pytest
from support.queue import Hand, advance_clock, submitted

from dtrain.protocol.errors import NotFound
from dtrain.protocol.worker_messages import AttemptUsage
from dtrain.server import workers
from dtrain.server.jobs import delete, usage
from dtrain.server.services import Services
from dtrain.server.store.schema import attempt_samples

MIB = 2**20


def uses(hand: Hand, cpu_time: float, mib: int, *gpus: float) -> None:
    """Poll; all attempts of the worker use this much."""
    found = [{"utilisation": gpu} for gpu in gpus]
    used = AttemptUsage(cpu_time=cpu_time, memory=mib * MIB, gpus=found)
    attempts = [msgspec.structs.replace(one, usage=used) for one in hand.attempts.values()]
    hand.poll(attempts=attempts)


def running(services: Services, hand: Hand, **spec: object) -> int:
    job = submitted(services, **spec)
    hand.run_next()
    return job.id


def test_job_without_an_attempt_has_used_nothing(services: Services) -> None:
    found = usage.usage(services, submitted(services).id)
    assert (found.attempt, found.began, found.samples) == (0, None, [])
    with pytest.raises(NotFound):
        usage.usage(services, 99)
    with pytest.raises(NotFound):
        usage.usage(services, found.attempt + 1, attempt=7)


def test_what_is_told_in_polls_is_kept(services: Services) -> None:
    hand = Hand(services)
    job_id = running(services, hand)
    for cpu_time, mib in ((15, 100), (30, 300)):
        advance_clock(services, 10)
        uses(hand, cpu_time, mib, 50, 10)
        uses(hand, cpu_time + 1000, 1000)  # too soon after it
    found = usage.usage(services, job_id)
    first, second = found.samples
    assert found.began is not None
    assert first.cpus * (first.at - found.began).total_seconds() == pytest.approx(15)
    assert second.cpus * (second.at - first.at).total_seconds() == pytest.approx(15)
    assert [one.memory for one in (first, second)] == [100 * MIB, 300 * MIB]
    assert first.gpus == [{"utilisation": 50}, {"utilisation": 10}]
    (only,) = usage.usage(services, job_id, points=1).samples
    assert (only.at, only.memory) == (second.at, 300 * MIB)


def test_limits_are_the_jobs_or_else_the_workers(services: Services) -> None:
    hand = Hand(services, slots=2)
    bounded, free = running(services, hand, cpus=2, memory_gb=1), running(services, hand)
    found = usage.usage(services, bounded)
    assert (found.cpus, found.memory) == (2, 2**30)
    found = usage.usage(services, free)
    assert (found.cpus, found.memory) == (hand.capacity.cpus, hand.capacity.memory)
    hand.finish(hand.ref(free), memory_limit=512 * MIB)
    assert usage.usage(services, free).memory == 512 * MIB
    workers.forget(services, hand.id, force=True)
    assert usage.usage(services, free).cpus is None


def test_samples_end_with_their_job(services: Services) -> None:
    hand = Hand(services)
    job_id = running(services, hand)
    uses(hand, 1, 1)
    hand.finish(hand.ref(job_id))
    assert len(usage.usage(services, job_id).samples) == 1
    delete.delete(services, job_id)
    with services.database.read() as connection:
        assert connection.execute(attempt_samples.select()).all() == []
