"""The words for how far jobs are kept apart, and for what an end by memory means."""

from __future__ import annotations

import pytest

from dtrain.protocol.resources import Protection
from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import Finish
from dtrain.server.rules.endings import ending_of
from dtrain.worker.config import Config
from dtrain.worker.probe import advices

GIB = 1024**3


def protection(**on: object) -> Protection:
    none = {"memory": "supervised", "cpu": "affinity", "pids": False}
    apart = {"uid": False, "pid_namespace": False, "filesystem": False}
    return Protection(**{**none, **apart, **on})  # type: ignore[arg-type]  # any field of it


@pytest.mark.parametrize(
    ("on", "level", "words"),
    [
        ({}, "process", "jobs have nothing of their own; no cgroups"),
        ({"uid": True}, "user", "a job has its own user; no cgroups"),
        (
            {"pid_namespace": True, "filesystem": True, "memory": "cgroup"},
            "namespace",
            "a job has its own processes and files; cgroups hold limits of memory",
        ),
    ],
)
def test_level_and_words(on: dict[str, object], level: str, words: str) -> None:
    assert protection(**on).level == level
    assert protection(**on).words == words


def test_advice_is_given_where_there_is_more_to_have() -> None:
    limited = Config(max_memory_gb=1)
    assert len(list(advices(limited, protection()))) == 2
    best = protection(memory="cgroup", cpu="cgroup", pid_namespace=True, filesystem=True)
    assert list(advices(limited, best)) == []
    assert len(list(advices(Config(), protection()))) == 1


def test_limit_that_the_worker_tells_comes_before_the_jobs_own() -> None:
    finish = Finish(cause=Cause.OUT_OF_MEMORY, peak_memory=GIB, memory_limit=GIB)
    ending = ending_of(finish, 2 * GIB, None)
    assert ending.message == "The job ran out of memory at 1.00 GB with a limit of 1.00 GB."
    older = Finish(cause=Cause.OUT_OF_MEMORY, peak_memory=GIB)
    assert "with a limit of 2.00 GB" in str(ending_of(older, 2 * GIB, None).message)
