from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause, Phase, Reason, Status
from dtrain.protocol.worker_messages import Finish
from dtrain.server.rules import lifecycle
from dtrain.server.rules.lifecycle import (
    BundleLost,
    CancelAsked,
    Claimed,
    EndReported,
    Finished,
    Happening,
    JobState,
    Lost,
    Moved,
    NeverStarted,
    Offered,
    OffersGone,
    OutOfReach,
    RetryDue,
    Returned,
    advance,
)

NEW = JobState(id=1)


def live(job: JobState, *happenings: Happening, now: float = 0.0) -> JobState:
    for happening in happenings:
        transition = advance(job, happening, now)
        job = job if transition is None else transition.after
    return job


RUNNING = live(NEW, Claimed("w1"))


def ended(cause: Cause = Cause.EXITED, **rest: object) -> Finished:
    return Finished(msgspec.convert({"cause": cause, **rest}, Finish))


def test_claim_raises_the_attempt_and_a_requeue_does_not() -> None:
    assert (RUNNING.status, RUNNING.attempt) == (Status.RUNNING, 1)
    again = live(RUNNING, NeverStarted())
    assert (again.status, again.phase, again.attempt) == (Status.PENDING, Phase.QUEUED, 1)
    assert live(again, Claimed("w2")).attempt == 2


def test_claim_of_a_running_job_is_refused() -> None:
    with pytest.raises(Conflict) as refused:
        advance(RUNNING, Claimed("w2"), 0)
    assert refused.value.code == "withdrawn"


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (ended(exit_code=0), Status.COMPLETED, None),
        (ended(exit_code=3), Status.FAILED, Reason.EXIT_NONZERO),
        (ended(signal=11), Status.FAILED, Reason.SIGNAL),
        (ended(Cause.OUT_OF_MEMORY), Status.FAILED, Reason.OUT_OF_MEMORY),
        (ended(Cause.TIME_LIMIT), Status.FAILED, Reason.TIME_LIMIT),
        (ended(Cause.ENVIRONMENT_FAILED), Status.FAILED, Reason.ENVIRONMENT_FAILED),
        (ended(Cause.IMAGE_FAILED), Status.FAILED, Reason.IMAGE_FAILED),
        (ended(Cause.BUNDLE_INVALID), Status.FAILED, Reason.BUNDLE_INVALID),
        (ended(Cause.ENTRY_MISSING), Status.FAILED, Reason.ENTRY_MISSING),
        (ended(Cause.DISK_FULL), Status.FAILED, Reason.DISK_FULL),
    ],
)
def test_end_gives_status_and_reason(
    finish: Finished, status: Status, reason: Reason | None
) -> None:
    job = live(RUNNING, EndReported(), finish, now=7.0)
    assert (job.status, job.reason, job.phase, job.finished_at) == (status, reason, None, 7.0)
    assert (job.message is None) == (status is Status.COMPLETED)


def test_end_with_a_retry_left_waits_and_counts_the_retry() -> None:
    job = live(msgspec.structs.replace(RUNNING, max_retries=1), ended(exit_code=1), now=5.0)
    assert (job.status, job.phase, job.retries) == (Status.PENDING, Phase.RETRY_WAIT, 1)
    assert job.not_before == 5.0 + lifecycle.RETRY_DELAY
    last = live(job, RetryDue(), Claimed("w1"), ended(exit_code=1))
    assert (last.status, last.reason, last.attempt) == (Status.FAILED, Reason.EXIT_NONZERO, 2)


def test_time_limit_is_not_retried() -> None:
    job = live(msgspec.structs.replace(RUNNING, max_retries=5), ended(Cause.TIME_LIMIT))
    assert job.reason is Reason.TIME_LIMIT


def test_losses_restart_with_growing_delay_until_the_budget_is_spent() -> None:
    job, delays = NEW, []
    for _ in range(lifecycle.MAX_RESTARTS):
        job = live(job, Claimed("w1"), OutOfReach(), Lost())
        assert job.not_before is not None
        delays.append(job.not_before)
        job = live(job, RetryDue())
    assert delays == [10.0, 20.0, 40.0]
    job = live(job, Claimed("w1"), Lost())
    assert (job.status, job.reason) == (Status.FAILED, Reason.WORKER_LOST)


def test_start_that_fails_is_tried_again_until_the_budget_is_spent() -> None:
    job, delays = NEW, []
    for number in range(lifecycle.MAX_RESTARTS):
        job = live(job, Claimed("w1"), ended(Cause.START_FAILED, message="No room."))
        assert (job.status, job.phase) == (Status.PENDING, Phase.RETRY_WAIT)
        assert job.message == f"No room. Attempt {number + 2} follows."
        assert job.not_before is not None
        delays.append(job.not_before)
        job = live(job, RetryDue())
    assert delays == [10.0, 20.0, 40.0]
    job = live(job, Claimed("w1"), ended(Cause.START_FAILED, message="No room."))
    assert (job.status, job.reason, job.message) == (
        Status.FAILED,
        Reason.START_FAILED,
        "No room.",
    )


def test_start_that_fails_after_a_cancel_is_the_end() -> None:
    job = live(RUNNING, CancelAsked(), ended(Cause.START_FAILED))
    assert job.status is Status.FAILED


def test_losses_on_three_workers_are_poison() -> None:
    job = NEW
    for worker in ("w1", "w2", "w3"):
        job = live(job, RetryDue(), Claimed(worker), Lost())
    assert (job.status, job.reason) == (Status.FAILED, Reason.POISON)


def test_return_of_the_current_attempt_refunds_the_restart() -> None:
    lost = live(RUNNING, Lost())
    back = live(lost, Returned(Phase.EXECUTING))
    assert (back.status, back.phase, back.attempt) == (Status.RUNNING, Phase.EXECUTING, 1)
    assert (back.restarts, back.lost_on) == (0, ())


def test_end_of_a_lost_attempt_counts_until_another_claims() -> None:
    lost = live(RUNNING, Lost())
    assert live(lost, ended(exit_code=0)).status is Status.COMPLETED


def test_hand_back_is_not_counted() -> None:
    job = live(RUNNING, ended(Cause.HANDED_BACK))
    assert (job.status, job.phase, job.restarts) == (Status.PENDING, Phase.QUEUED, 0)


def test_cancel_of_a_waiting_job_is_its_end() -> None:
    for waiting in (NEW, live(NEW, Offered()), live(RUNNING, Lost())):
        job = live(waiting, CancelAsked(), now=3.0)
        assert (job.status, job.reason, job.finished_at) == (Status.CANCELLED, Reason.USER, 3.0)


def test_loss_of_the_bundle_ends_a_job_that_waits_alone() -> None:
    for waiting in (NEW, live(NEW, Offered()), live(RUNNING, Lost())):
        job = live(waiting, BundleLost(), now=3.0)
        assert (job.status, job.reason) == (Status.FAILED, Reason.BUNDLE_INVALID)
    assert advance(RUNNING, BundleLost(), 3.0) is None


def test_cancel_of_a_running_job_ends_it_only_when_the_kill_is_confirmed() -> None:
    job = live(RUNNING, CancelAsked())
    assert (job.status, job.phase, job.cancel) == (Status.RUNNING, Phase.CANCELLING, 1)
    assert live(job, CancelAsked()).cancel == 2
    assert live(job, Moved(Phase.EXECUTING)).phase is Phase.CANCELLING
    assert live(job, ended(Cause.CANCELLED, signal=15)).status is Status.CANCELLED
    assert live(job, OutOfReach(), Lost()).status is Status.CANCELLED


def test_job_that_exited_before_the_kill_keeps_its_own_outcome() -> None:
    assert live(RUNNING, CancelAsked(), ended(exit_code=0)).status is Status.COMPLETED
    failed = live(RUNNING, CancelAsked(), ended(exit_code=2))
    assert (failed.status, failed.reason) == (Status.FAILED, Reason.EXIT_NONZERO)


def test_offers_show_in_the_phase_alone() -> None:
    offered = live(NEW, Offered())
    assert (offered.status, offered.phase) == (Status.PENDING, Phase.OFFERED)
    assert live(offered, OffersGone()).phase is Phase.QUEUED
    assert advance(NEW, OffersGone(), 0) is None


PHASES: dict[Status, set[Phase | None]] = {
    Status.PENDING: {Phase.QUEUED, Phase.OFFERED, Phase.RETRY_WAIT},
    Status.RUNNING: {
        Phase.PREPARING,
        Phase.EXECUTING,
        Phase.FINISHING,
        Phase.CANCELLING,
        Phase.UNREACHABLE,
    },
}
HAPPENINGS = st.one_of(
    st.builds(Claimed, st.sampled_from(["w1", "w2", "w3"])),
    st.builds(Returned, st.sampled_from(Phase)),
    st.builds(Moved, st.sampled_from([Phase.PREPARING, Phase.EXECUTING, Phase.CANCELLING])),
    st.sampled_from(
        [
            Offered(),
            OffersGone(),
            BundleLost(),
            RetryDue(),
            OutOfReach(),
            Lost(),
            NeverStarted(),
            CancelAsked(),
            EndReported(),
        ]
    ),
    st.builds(lambda cause: ended(cause, exit_code=1), st.sampled_from(Cause)),
)


@given(st.lists(HAPPENINGS, max_size=40), st.integers(0, 3))
def test_any_story_keeps_the_laws(story: list[Happening], max_retries: int) -> None:
    job = msgspec.structs.replace(NEW, max_retries=max_retries)
    for now, happening in enumerate(story):
        try:
            transition = advance(job, happening, float(now))
        except Conflict:
            continue
        if transition is None:
            continue
        after = transition.after
        assert not job.status.final, "a final status never changes"
        assert after.version == job.version + 1
        claimed = isinstance(happening, Claimed)
        assert after.attempt == job.attempt + claimed, "the attempt rises at a claim alone"
        assert after.phase in PHASES.get(after.status, {None})
        assert (after.finished_at is not None) == after.status.final
        assert (after.reason is None) or after.status in {Status.FAILED, Status.CANCELLED}
        assert after.restarts <= lifecycle.MAX_RESTARTS + 1
        assert after.retries <= max_retries
        job = after
