from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dtrain.protocol.messages import BundleInfo
from dtrain.protocol.spec import parse_spec
from dtrain.protocol.worker_messages import Offer
from dtrain.worker.policy import Rule, Word, complaint_of, judge, matches

SHA = "0123456789abcdef" * 4


def offer(submitter: str | None = "alice", size: int = 5 * 1024**2, **spec: Any) -> Offer:
    return Offer(
        job_id=1,
        spec=parse_spec({"name": "digits-7", **spec}),
        bundle=BundleInfo(sha256=SHA, size=size, files=3),
        submitter=submitter,
        age=0.0,
    )


@pytest.mark.parametrize(
    ("rule", "spec", "holds"),
    [
        ({"tag": "nightly"}, {"tags": ["nightly", "x"]}, True),
        ({"tag": "nightly"}, {"tags": ["Nightly"]}, False),
        ({"tag": "night*"}, {"tags": ["nightly"]}, False),  # tags are words, no patterns
        ({"tag": ["a", "b"]}, {"tags": ["b"]}, True),
        ({"tag": ["a", "b"]}, {}, False),
        ({"submitter": "alice"}, {}, True),
        ({"submitter": "al*"}, {}, True),
        ({"submitter": ["bob", "carol"]}, {}, False),
        ({"submitter": "*"}, {"submitter": None}, False),
        ({"name": "digits-?"}, {}, True),
        ({"name": "digits"}, {}, False),
        ({"name": "run [1]"}, {"name": "run [1]"}, True),  # as it stands, not only as a pattern
        ({"image": None}, {}, True),
        ({"image": None}, {"image": "python:3.12"}, False),
        ({"image": "python:*"}, {"image": "python:3.12"}, True),
        ({"image": "python:*"}, {"image": "evil/python:3.12"}, False),
        ({"image": "*"}, {}, False),
        ({"sha256": SHA}, {}, True),
        ({"sha256": ["f" * 64]}, {}, False),
        ({"max_bundle_mb": 5}, {}, True),
        ({"max_bundle_mb": 4.99}, {}, False),
        ({"max_time_limit": "2h"}, {"time_limit": "2h"}, True),
        ({"max_time_limit": 7199}, {"time_limit": "2h"}, False),
        ({"max_time_limit": "1d"}, {}, False),
        ({"max_memory_gb": 8}, {"memory_gb": 8}, True),
        ({"max_memory_gb": 8}, {"memory_gb": 8.1}, False),
        ({"max_memory_gb": 8}, {}, False),
        ({"max_gpus": 0}, {}, True),
        ({"max_gpus": 0}, {"gpus": 1}, False),
        ({"tag": "a", "submitter": "alice"}, {"tags": ["a"]}, True),
        ({"tag": "a", "submitter": "bob"}, {"tags": ["a"]}, False),
    ],
)
def test_rule_holds_if_all_its_conditions_do(
    rule: dict[str, Any], spec: dict[str, Any], holds: bool
) -> None:
    assert matches(msgspec.convert(rule, Rule), offer(**spec)) == holds


def test_any_rule_lets_in_and_a_no_weighs_more() -> None:
    yes = [Rule(tag="a"), Rule(name="digits*")]
    no = [Rule(submitter="mallory")]
    verdict = judge(offer(), accept_when=yes, decline_when=no)
    assert (verdict.word, verdict.rule) == (Word.ACCEPT, yes[1])
    verdict = judge(offer("mallory"), accept_when=yes, decline_when=no)
    assert (verdict.word, verdict.rule) == (Word.DECLINE, no[0])
    assert judge(offer(name="x"), accept_when=yes, decline_when=no).word is Word.ASK
    assert judge(offer(), accept_when=[], decline_when=[]).word is Word.ASK


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(), "auto_accept_jobs"),
        (Rule(max_time_limit="soon"), "no duration"),
        (Rule(sha256=["abc"]), "no SHA-256"),
        (Rule(sha256="A" * 64), "no SHA-256"),
    ],
)
def test_rule_that_cannot_be_meant_is_refused(rule: Rule, words: str) -> None:
    assert words in (complaint_of(rule) or "")


def test_rule_is_shown_as_it_was_written() -> None:
    rule = Rule(image=None, tag=["a"], max_time_limit="2h")
    assert str(rule) == '{"tag":["a"],"image":null,"max_time_limit":"2h"}'
    assert complaint_of(rule) is None
