"""Checkpoints that are kept, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from io import BytesIO

import pytest
import sqlalchemy as sa
from support.queue import Hand, advance_clock, let_pass, submitted

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import (
    ArtifactInfo,
    CheckpointFileInfo,
    Generation,
    GenerationAnswer,
)
from dtrain.server.background import Background
from dtrain.server.housekeeping import Housekeeping
from dtrain.server.jobs import cancel, checkpoints, delete, read, report
from dtrain.server.jobs.fencing import AttemptRef
from dtrain.server.services import Services
from dtrain.server.store.schema import checkpoint_files

DAY = 24 * 3600


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def generation(number: int, files: Mapping[str, bytes]) -> Generation:
    described = [
        CheckpointFileInfo(path=path, size=len(content), sha256=sha(content), mode=0o640)
        for path, content in sorted(files.items())
    ]
    return Generation(number=number, files=described)


def send(services: Services, ref: AttemptRef, content: bytes) -> None:
    checkpoints.put_content(services, ref, sha(content), BytesIO(content))


def keep(
    services: Services, ref: AttemptRef, number: int, files: Mapping[str, bytes]
) -> GenerationAnswer:
    """Have a generation kept, as a worker does."""
    message = generation(number, files)
    answer = checkpoints.keep(services, ref, message)
    for content in files.values():
        if sha(content) in answer.missing:
            send(services, ref, content)
    return answer if answer.kept else checkpoints.keep(services, ref, message)


def kept(services: Services, job_id: int) -> list[int]:
    return [one.generation for one in checkpoints.listing(services, job_id).checkpoints]


def make_old(services: Services) -> None:
    """Have all blobs be some days old."""
    for path in services.settings.upload_folder.glob("??/*"):
        os.utime(path, (0, 0))


def test_generation_is_seen_when_it_is_whole_and_not_before(services: Services) -> None:
    job = submitted(services)
    ref = Hand(services).run_next()
    files = {"model": b"weights", "deep/er": b"momenta"}
    message = generation(1, files)

    answer = checkpoints.keep(services, ref, message)
    assert (answer.kept, answer.newest) == (False, 0)
    assert set(answer.missing) == {sha(b"weights"), sha(b"momenta")}
    send(services, ref, b"weights")
    assert checkpoints.keep(services, ref, message).missing == [sha(b"momenta")]
    assert kept(services, job.id) == []
    assert read.get(services, job.id).checkpoint is None
    send(services, ref, b"momenta")
    for _ in range(2):
        answer = checkpoints.keep(services, ref, message)
        assert (answer.kept, answer.newest, answer.missing) == (True, 1, [])

    (found,) = checkpoints.kept(services, ref).generations
    assert [(file.path, file.size, file.mode) for file in found.files] == [
        ("deep/er", 7, 0o640),
        ("model", 7, 0o640),
    ]
    assert checkpoints.content(services, ref, sha(b"weights")).read_bytes() == b"weights"
    shown = read.get(services, job.id).checkpoint
    assert shown is not None
    assert (shown.generation, shown.attempt, shown.files, shown.size) == (1, 1, 2, 14)


def test_only_what_has_changed_is_missed_and_two_generations_are_kept(services: Services) -> None:
    job = submitted(services)
    ref = Hand(services).run_next()
    keep(services, ref, 1, {"data": b"large", "state": b"1"})
    changed = generation(2, {"data": b"large", "state": b"2"})
    assert checkpoints.keep(services, ref, changed).missing == [sha(b"2")]
    for number in range(2, 6):
        assert keep(services, ref, number, {"data": b"large", "state": b"%d" % number}).kept
    assert kept(services, job.id) == [5, 4]
    unchanged = keep(services, ref, 6, {"data": b"large", "state": b"5"})
    assert (unchanged.kept, unchanged.newest) == (True, 5)
    assert kept(services, job.id) == [5, 4]


def test_late_and_repeated_messages_change_nothing(services: Services) -> None:
    job = submitted(services)
    ref = Hand(services).run_next()
    messages = [generation(number, {"state": b"%d" % number}) for number in (1, 2, 3)]
    for number, message in enumerate(messages, 1):
        send(services, ref, b"%d" % number)
        assert checkpoints.keep(services, ref, message).kept
    before = checkpoints.listing(services, job.id)
    for message in messages[:2]:
        answer = checkpoints.keep(services, ref, message)
        assert (answer.kept, answer.newest, answer.missing) == (False, 3, [])
    early = checkpoints.keep(services, ref, generation(9, {"state": b"1"}))
    assert (early.kept, early.newest) == (False, 3)
    assert checkpoints.listing(services, job.id) == before


def test_one_of_two_generations_that_come_at_once_is_kept(services: Services) -> None:
    job = submitted(services)
    ref = Hand(services).run_next()
    answers: list[GenerationAnswer] = []

    def hand_over(state: bytes) -> None:
        send(services, ref, state)
        answers.append(checkpoints.keep(services, ref, generation(1, {"state": state})))

    threads = [threading.Thread(target=hand_over, args=[b"%d" % number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.kept for answer in answers) == [False] * 7 + [True]
    assert kept(services, job.id) == [1]


def test_next_attempt_goes_on_from_the_newest_and_the_old_one_is_refused(
    services: Services,
) -> None:
    job = submitted(services)
    ref = Hand(services, "gone").run_next()
    other = Hand(services, "other")
    keep(services, ref, 1, {"state": b"1"})
    let_pass(Background(services), services, 300)
    keep(services, ref, 2, {"state": b"2"})
    let_pass(Background(services), services, 20)

    again = other.run_next()

    assert again.attempt == 2
    assert [one.attempt for one in checkpoints.kept(services, again).generations] == [1, 1]
    for call in (
        lambda: keep(services, ref, 3, {"state": b"3"}),
        lambda: send(services, ref, b"3"),
        lambda: checkpoints.kept(services, ref),
        lambda: checkpoints.content(services, ref, sha(b"1")),
    ):
        with pytest.raises(Conflict) as raised:
            call()
        assert raised.value.code == "stale"
    assert keep(services, again, 3, {"state": b"3"}).kept
    found = checkpoints.listing(services, job.id).checkpoints
    assert [(one.generation, one.attempt) for one in found] == [(3, 2), (2, 1)]


def test_attempt_of_a_job_that_was_cancelled_meanwhile_is_refused(services: Services) -> None:
    job = submitted(services)
    ref = Hand(services).run_next()
    let_pass(Background(services), services, 310)
    cancel.cancel(services, job.id, by=None)
    with pytest.raises(Conflict):
        keep(services, ref, 1, {"state": b"1"})
    assert kept(services, job.id) == []


def test_contents_of_old_generations_go_and_those_in_use_stay(services: Services) -> None:
    job = submitted(services)
    ref = Hand(services).run_next()
    report.put_artifact(services, ref, "best", sha(b"1"), BytesIO(b"1"))
    for number in range(1, 6):
        keep(services, ref, number, {"state": b"%d" % number, "same": b"same"})
    make_old(services)
    housekeeping = Housekeeping(services)

    housekeeping.drop_checkpoints()
    assert services.blobs.has(sha(b"3"))
    advance_clock(services, 200)
    with services.blobs.kept():
        housekeeping.drop_checkpoints()
        assert services.blobs.has(sha(b"3"))
    housekeeping.drop_checkpoints()

    there = {state for state in (b"1", b"2", b"3", b"4", b"5") if services.blobs.has(sha(state))}
    assert there == {b"1", b"4", b"5"}
    assert services.blobs.has(sha(b"same"))
    housekeeping.sweep()
    assert services.blobs.has(sha(b"5"))
    assert kept(services, job.id) == [5, 4]


def test_content_that_was_asked_for_just_now_stays(services: Services) -> None:
    submitted(services)
    submitted(services, "another")
    ref, other = Hand(services).run_next(), Hand(services, "other").run_next()
    for number in (1, 2, 3):
        keep(services, ref, number, {"state": b"%d" % number})
    make_old(services)
    advance_clock(services, 200)
    message = generation(1, {"state": b"1", "more": b"more"})
    assert checkpoints.keep(services, other, message).missing == [sha(b"more")]
    Housekeeping(services).drop_checkpoints()
    send(services, other, b"more")
    assert checkpoints.keep(services, other, message).kept


def test_checkpoints_of_a_completed_job_go_at_once(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    keep(services, ref, 1, {"state": b"1"})
    kept_file = ArtifactInfo(path="model", size=1, sha256=sha(b"1"))
    assert not hand.finish(ref, artifacts=[kept_file]).applied
    assert kept(services, job.id) == [1]
    report.put_artifact(services, ref, "model", sha(b"1"), BytesIO(b"1"))
    assert kept(services, job.id) == []
    assert read.get(services, job.id).checkpoint is None


def test_checkpoints_of_a_failed_job_are_kept_for_a_while(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    keep(services, ref, 1, {"state": b"1"})
    hand.finish(ref, exit_code=1)
    make_old(services)
    housekeeping = Housekeeping(services)
    advance_clock(services, 13 * DAY)
    housekeeping.drop_checkpoints()
    assert kept(services, job.id) == [1]
    advance_clock(services, 2 * DAY)
    housekeeping.drop_checkpoints()
    assert kept(services, job.id) == []
    advance_clock(services, 200)
    housekeeping.drop_checkpoints()
    assert not services.blobs.has(sha(b"1"))


def test_checkpoints_go_with_their_job(services: Services) -> None:
    job = submitted(services)
    keep(services, Hand(services).run_next(), 1, {"state": b"1"})
    delete.delete(services, job.id)
    with services.database.read() as connection:
        counted = sa.select(sa.func.count()).select_from(checkpoint_files)
        assert connection.execute(counted).scalar_one() == 0
    make_old(services)
    Housekeeping(services).sweep()
    assert not services.blobs.has(sha(b"1"))


def test_handed_back_job_has_its_checkpoint_when_it_is_claimed_again(services: Services) -> None:
    submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    keep(services, ref, 1, {"state": b"1"})
    assert hand.finish(ref, Cause.HANDED_BACK).applied
    again = Hand(services, "other").run_next()
    assert [one.number for one in checkpoints.kept(services, again).generations] == [1]
