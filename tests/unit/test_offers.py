from __future__ import annotations

import threading

from dtrain.protocol.messages import BundleInfo
from dtrain.protocol.spec import parse_spec
from dtrain.protocol.worker_messages import Offer
from dtrain.worker.offers import OpenOffers, State
from dtrain.worker.policy import Rule, Verdict, Word


def offer(job_id: int, name: str = "a job") -> Offer:
    return Offer(
        job_id=job_id,
        spec=parse_spec({"name": name}),
        bundle=BundleInfo(sha256="0" * 64, size=1, files=1),
        submitter=None,
        age=0.0,
    )


def judged(one: Offer) -> Verdict:
    return (
        Verdict(Word.ACCEPT, Rule(name="ruled")) if one.spec.name == "ruled" else Verdict(Word.ASK)
    )


def opened(*job_ids: int) -> OpenOffers:
    offers = OpenOffers(judged)
    offers.update([offer(job_id) for job_id in job_ids], 0.0)
    return offers


def test_offers_are_asked_in_their_order_and_counted() -> None:
    offers = opened(3, 5, 7)
    first = offers.to_ask(1.0)
    assert first is not None
    assert first.job_id == 3
    assert offers.place(3, 1.0) == (1, 3)
    assert offers.place(5, 1.0) == (2, 3)


def test_what_was_put_off_comes_back_behind_the_others() -> None:
    offers = opened(3, 5)
    offers.put_off(3, 10.0)
    assert offers.place(5, 1.0) == (1, 1)
    assert offers.next_due(1.0) == 10.0
    assert offers.place(3, 11.0) == (2, 2)
    assert offers.next_due(11.0) is None
    assert offers.ids() == [5, 3]


def test_one_of_many_has_an_offer() -> None:
    offers = opened(3)
    got: list[Offer | None] = []
    threads = [threading.Thread(target=lambda: got.append(offers.take(3))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in got) == 1
    assert offers.state(3) is State.TAKEN
    assert offers.to_ask(1.0) is None
    assert offers.ids() == [3]


def test_list_that_is_older_than_an_answer_does_not_bring_it_back() -> None:
    offers = opened(3, 5)
    offers.take(3)
    offers.answered(3, 10.0)
    assert not offers.update([offer(3), offer(5)], 9.0)
    assert offers.state(3) is State.TAKEN
    assert offers.update([offer(3), offer(5)], 11.0), "a list that was asked for later is newer"
    assert offers.state(3) is State.OPEN


def test_what_is_missing_is_withdrawn() -> None:
    offers = opened(3, 5)
    assert offers.update([offer(5)], 1.0)
    assert offers.state(3) is State.GONE
    assert offers.take(3) is None
    offers.put_off(3, 5.0)
    assert offers.ids() == [5]


def test_what_a_rule_decides_is_never_asked() -> None:
    offers = OpenOffers(judged)
    offers.update([offer(1, "ruled"), offer(2)], 0.0)
    asked, ruled = offers.to_ask(1.0), offers.ruled(1.0, has_room=True)
    assert asked is not None
    assert ruled is not None
    assert (asked.job_id, ruled[0].job_id) == (2, 1)
    assert offers.place(2, 1.0) == (1, 1)
    assert offers.ruled(1.0, has_room=False) is None
    offers.take(1)
    assert offers.ruled(1.0, has_room=True) is None
