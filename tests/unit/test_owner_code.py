from __future__ import annotations

import msgspec
import pytest

from dtrain.protocol.consent import ALPHABET, key_of, normal, prove, shown
from dtrain.protocol.states import Outcome
from dtrain.protocol.worker_messages import PageAnswer
from dtrain.worker.owner_code import MAX_WRONG, OwnerCode, new_code

WORKER = "7a6c1a52-0000-0000-0000-000000000000"


def answer(code: str, worker: str = WORKER) -> PageAnswer:
    proof = prove(key_of(code, worker), "x", 7, accept=True, reason=None)
    return PageAnswer(id="x", job_id=7, accept=True, reason=None, proof=proof)


def test_codes_are_long_enough_and_differ() -> None:
    assert len(set(ALPHABET)) == 32
    codes = {new_code() for _ in range(100)}
    assert len(codes) == 100
    assert {len(code) for code in codes} == {8}


@pytest.mark.parametrize("entered", ["K01M-2Q9T", "k01m2q9t", " kOim 2q9T ", "KOLM--2Q9T"])
def test_code_is_taken_as_it_was_meant(entered: str) -> None:
    assert normal(entered) == "K01M2Q9T"
    assert shown("K01M2Q9T") == "K01M-2Q9T"
    code = OwnerCode("K01M2Q9T")
    code.belong_to(WORKER)
    assert code.complaint_of(answer(entered)) is None


@pytest.mark.parametrize(
    "change",
    [{"id": "y"}, {"job_id": 8}, {"accept": False}, {"reason": "x"}, {"proof": "ü"}, {"proof": ""}],
)
def test_proof_is_for_one_answer_alone(change: dict[str, object]) -> None:
    code = OwnerCode("K01M2Q9T")
    code.belong_to(WORKER)
    changed = msgspec.structs.replace(answer("K01M2Q9T"), **change)
    assert code.complaint_of(changed) is Outcome.WRONG_CODE


def test_proof_is_for_one_worker_alone() -> None:
    code = OwnerCode("K01M2Q9T")
    assert code.complaint_of(answer("K01M2Q9T")) is Outcome.WRONG_CODE, "nobody has joined"
    code.belong_to("another worker")
    assert code.complaint_of(answer("K01M2Q9T")) is Outcome.WRONG_CODE


def test_guesses_are_bounded_whoever_makes_them() -> None:
    code = OwnerCode("K01M2Q9T")
    code.belong_to(WORKER)
    right, wrong = answer("K01M2Q9T"), answer("K01M2Q9X")
    assert {code.complaint_of(wrong) for _ in range(MAX_WRONG)} == {Outcome.WRONG_CODE}
    assert code.complaint_of(right) is Outcome.TOO_MANY_TRIES
