"""Who is woken by which notice."""

from __future__ import annotations

import threading

from support.processes import PATIENCE

from dtrain.server.mailboxes import Mailboxes


def test_waiters_are_told_of_their_topics_alone() -> None:
    mailboxes = Mailboxes()
    with mailboxes.listen("log:1", "jobs") as one, mailboxes.listen("log:2") as other:
        mailboxes.wake("log:1")
        assert (one.is_set(), other.is_set()) == (True, False)
        one.clear()
        mailboxes.wake_all()
        assert (one.is_set(), other.is_set()) == (True, True)


def test_each_of_many_waiters_is_woken_whether_or_not_the_others_run() -> None:
    mailboxes = Mailboxes()
    waiting, woken = threading.Barrier(51), threading.Barrier(51)

    def wait() -> None:
        with mailboxes.listen("job:1") as told:
            waiting.wait(PATIENCE)
            assert told.wait(PATIENCE)
            woken.wait(PATIENCE)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(50)]
    with mailboxes.listen("job:1") as busy:
        for thread in threads:
            thread.start()
        waiting.wait(PATIENCE)
        mailboxes.wake("job:1")
        woken.wait(PATIENCE)
        assert busy.wait(PATIENCE)
    mailboxes.wake_all()


def test_waiter_that_is_told_again_while_it_runs_is_woken_again() -> None:
    mailboxes = Mailboxes()
    with mailboxes.listen("job:1") as one, mailboxes.listen("job:1") as other:
        for _ in range(3):
            mailboxes.wake("job:1")
            for told in (one, other):
                assert told.wait(PATIENCE)
                told.clear()
    mailboxes.wake_all()
