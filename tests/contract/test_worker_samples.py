"""How busy workers were is kept for a day, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import pytest
from support.queue import Hand, advance_clock

from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import WorkerMetrics
from dtrain.server import workers
from dtrain.server.housekeeping import Housekeeping
from dtrain.server.services import Services
from dtrain.server.store.schema import worker_samples as stored


def busy(percent: float, *gpus: float) -> WorkerMetrics:
    found = [{"utilisation": gpu, "power": 100.0} for gpu in gpus]
    return WorkerMetrics(cpu_percent=percent, memory_used=int(percent), gpus=found)


def loads(services: Services, hand: Hand, points: int = workers.MAX_SAMPLES) -> list[float]:
    found = workers.samples(services, hand.id, points=points).samples
    return [sample.metrics.cpu_percent for sample in found]


def test_worker_has_one_sample_a_minute(services: Services) -> None:
    hand, other = Hand(services), Hand(services, "other")
    for minute in range(5):
        for second in range(3):
            hand.poll(metrics=busy(10 * minute + second))
        advance_clock(services, 60)
    # A minute may end between two polls, on a machine that is slow.
    found = loads(services, hand)
    assert [load // 10 for load in found if load % 10 == 0] == [0, 1, 2, 3, 4]
    assert loads(services, other) == []


def test_samples_are_thinned_to_their_means(services: Services) -> None:
    hand = Hand(services)
    for minute in range(6):
        hand.poll(metrics=busy(10 * minute, 2 * minute, 100))
        advance_clock(services, 60)
    assert loads(services, hand, points=3) == [5, 25, 45]
    assert loads(services, hand, points=1) == [25]
    found = workers.samples(services, hand.id, points=2).samples
    assert found[1].metrics.gpus == [
        {"utilisation": 8, "power": 100},
        {"utilisation": 100, "power": 100},
    ]
    first, second = (sample.at for sample in found)
    assert (second - first).total_seconds() == 180


def test_samples_end_after_a_day_and_with_their_worker(services: Services) -> None:
    hand, forgotten = Hand(services), Hand(services, "forgotten")
    hand.poll(metrics=busy(1))
    forgotten.poll(metrics=busy(2))
    workers.forget(services, forgotten.id)
    with pytest.raises(NotFound):
        workers.samples(services, forgotten.id)
    advance_clock(services, 24 * 3600)
    hand.poll(metrics=busy(3))
    assert loads(services, hand) == [3]
    Housekeeping(services).sweep()
    with services.database.read() as connection:
        rows = connection.execute(stored.select()).all()
    assert [row.worker_id for row in rows] == [hand.id]


def test_worker_says_why_it_takes_nothing(services: Services) -> None:
    hand = Hand(services)
    assert workers.get(services, hand.id).takes_nothing is None
    assert "resumed" in (workers.drain(services, hand.id).takes_nothing or "")
    assert workers.resume(services, hand.id).takes_nothing is None
    hand.poll(draining=True)
    assert "ending" in (workers.get(services, hand.id).takes_nothing or "")
    advance_clock(services, 60)
    assert "not been heard of" in (workers.get(services, hand.id).takes_nothing or "")
