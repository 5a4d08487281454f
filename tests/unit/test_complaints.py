from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from dtrain.protocol.complaints import Complaint, complaint

COUNT = Annotated[int, msgspec.Meta(ge=1, le=5000)]
WORD = Annotated[str, msgspec.Meta(min_length=2, max_length=3)]


class Message(msgspec.Struct):
    count: COUNT = 1
    words: list[WORD] = []
    pairs: dict[WORD, WORD] = {}
    share: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    code: Annotated[str, msgspec.Meta(pattern="^a")] = "a"
    inner: list[Message] = []


@pytest.mark.parametrize(
    ("value", "words", "where"),
    [
        ({"count": 0}, "it must be a whole number of at least 1", "count"),
        ({"count": 5001}, "it must be a whole number of at most 5,000", "count"),
        ({"count": "many"}, "it must be a whole number, not text", "count"),
        ({"share": 1.0}, "it must be a number smaller than 1", "share"),
        ({"share": 0}, "it must be a number greater than 0", "share"),
        ({"share": []}, "it must be a number or null, not a list", "share"),
        ({"words": ["ab", "a"]}, "it must have at least 2 characters", "words[1]"),
        ({"pairs": {"a": "ab"}}, "it must have at least 2 characters", "pairs[...]"),
        ({"pairs": {"ab": "abcd"}}, "it must have at most 3 characters", "pairs[...]"),
        ({"code": "b"}, "it is not written as it must be", "code"),
        ({"inner": [{"count": 0}]}, "it must be a whole number of at least 1", "inner[0].count"),
        ([], "it must be names with values, not a list", ""),
    ],
)
def test_complaints_are_words_for_a_person(value: Any, words: str, where: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, Message)
    assert complaint(refused.value) == Complaint(words, where)


def test_text_that_stood_for_a_number_is_not_called_text() -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"count": "many"}, Message, strict=False)
    assert complaint(refused.value, from_text=True).words == "it must be a whole number"


@pytest.mark.parametrize("text", ["9" * 5000, "1e999"])
def test_number_that_no_type_can_hold_is_too_large(text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(text, int if text.isdigit() else float, strict=False)
    assert complaint(refused.value) == Complaint("the number is too large", "")
