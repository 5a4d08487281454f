"""How often a sample of what an attempt uses is kept, and many as few."""

from __future__ import annotations

import pytest

from dtrain.protocol.worker_messages import AttemptUsage
from dtrain.server.rules.usage import Taken, is_due, thinned


def taken(at: float, cpu_time: float, memory: int = 0, *gpus: float) -> Taken:
    found = [{"utilisation": gpu} for gpu in gpus]
    return at, AttemptUsage(cpu_time=cpu_time, memory=memory, gpus=found)


@pytest.mark.parametrize(
    ("age", "since", "due"),
    [
        (0, None, True),
        (10, 4.9, False),
        (10, 5, True),
        (2000, 5, True),
        (4000, 5, False),
        (4000, 10, True),
        (4000, -11, True),  # the clock was set back
    ],
)
def test_samples_lie_farther_apart_the_older_the_attempt(
    age: float, since: float | None, due: bool
) -> None:
    now = 1000.0 + age
    assert is_due(1000.0, None if since is None else now - since, now) is due


def test_month_has_some_thousand_samples() -> None:
    began, now, sampled_at, count = 0.0, 0.0, None, 0
    while now < 30 * 24 * 3600:
        if is_due(began, sampled_at, now):
            sampled_at, count = now, count + 1
        now += 5
    assert 2000 < count < 4000


def test_processors_are_the_mean_since_the_sample_before() -> None:
    samples = [taken(110, 15), taken(120, 35), taken(120, 36), taken(130, 5), taken(140, 15)]
    found = [one.cpus for one in thinned(samples, 100, 10)]
    assert found == [1.5, 2, 0, 0, 1]  # what cannot be told is nothing


def test_few_stand_for_many() -> None:
    samples = [
        taken(110, 10, 5, 10, 50),
        taken(120, 30, 9, 30, 50),
        taken(130, 30, 3, 50),
    ]
    first, second = thinned(samples, 100, 2)
    assert (first.cpus, first.memory, first.gpus) == (
        1.5,
        9,
        [{"utilisation": 20}, {"utilisation": 50}],
    )
    assert (second.cpus, second.memory, second.gpus) == (0, 3, [{"utilisation": 50}])
    assert second.at.timestamp() == 130
    assert list(thinned([], 100, 2)) == []
