from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from dtrain.worker.keyboard import ESCAPE, PASTED, _keys
from dtrain.worker.question import (
    PAUSE,
    Accept,
    Again,
    Decline,
    Details,
    Files,
    Help,
    Later,
    Question,
    Will,
)


def typed(text: str, question: Question | None = None, every: float = 0.1) -> Will | None:
    """What the owner wants after keys at a steady pace, and a pause."""
    question = question or Question()
    now = 100.0
    for key in text:
        will = question.pause(now) or question.press(key, now)
        if will is not None:
            return will
        now += every
    return question.pause(now + PAUSE)


def test_letter_acts_alone_after_a_pause() -> None:
    question = Question()
    assert question.press("a", 5.0) is None
    assert question.acts_at == 5.0 + PAUSE
    assert question.pause(5.3) is None
    assert question.pause(5.0 + PAUSE) == Accept()
    assert typed("?") == Details()
    assert typed("f") == Files()
    assert typed("l") == Later(300.0)


def test_word_acts_with_enter_alone() -> None:
    assert typed("accept") is None
    assert typed("accept\n") == Accept()
    assert typed("ACCEPT \n") == Accept()
    assert typed("acceptable\n") == Help()
    assert typed("accept it\n") == Help()
    assert typed("details\n") == Details()
    assert typed("files\n") == Files()
    assert typed("help\n") == Help()
    assert typed("\n") == Again()


def test_decline_asks_why_unless_that_was_said() -> None:
    assert typed("decline  too big \n") == Decline("too big")
    question = Question()
    assert typed("d\n", question) == Again()
    assert question.asks_reason
    assert typed("a\n", question) == Decline("a")  # no answer to the question before
    assert typed("no\n", question := Question()) == Again()
    assert typed(" \n", question) == Decline(None)


def test_later_takes_a_length_of_time() -> None:
    assert typed("later 30m\n") == Later(1800.0)
    assert typed("l 2h\n") == Later(7200.0)
    assert typed("later 45\n") == Later(2700.0)
    for nonsense in ("later soon\n", "later 0m\n", "later 8d\n", "later ٣\n"):
        assert isinstance(typed(nonsense), Help)


def test_what_was_typed_can_be_taken_back() -> None:
    assert typed("dec\x7f\x7f\x7fa") == Accept()
    assert typed("decline\x15a") == Accept()
    assert typed("accept\x1ba") == Accept()
    question = Question()
    question.press("a", 1.0)
    question.press("\x7f", 1.1)
    assert question.pause(9.0) is None


def test_pasted_text_is_no_answer_but_can_be_a_reason() -> None:
    question = Question()
    assert isinstance(question.press(f"{PASTED}accept\n", 1.0), Help)
    assert question.pause(9.0) is None
    typed("d\n", question)
    assert question.press(f"{PASTED}two\nlines", 2.0) is None
    assert question.press("\n", 3.0) == Decline("two lines")


@given(st.text(max_size=40))
@example("A\ud7fc")
def test_nothing_but_a_yes_accepts(line: str) -> None:
    """One line of anything, and Enter."""
    text = line.replace("\n", " ").replace("\r", " ").replace(PASTED, " ")
    keys = [key for key in text if key not in "\x08\x7f\x15\x1b"]
    assume("".join(keys).strip().lower() not in {"a", "accept", "y", "yes"})
    question = Question()
    for key in [*keys, "\n"]:
        assert question.press(key, 1.0) != Accept()


def test_sequences_of_keys_without_a_sign_are_swallowed() -> None:
    assert _keys("a\x1b[A\x1bOA\x1b[1;5Ab\x1bc\x1b[3~") == (["a", "b"], "")
    assert _keys("a\x1b") == (["a"], ESCAPE)
    assert _keys("\x1b[1;") == ([], "\x1b[1;")
    assert _keys("\x1b\x1b") == ([ESCAPE], ESCAPE)
    assert _keys("x\x1b[200~y\nz\x1b[201~\n") == (["x", f"{PASTED}y\nz", "\n"], "")
    assert _keys("\x1b[200~not whole") == ([], "\x1b[200~not whole")


@given(st.text(alphabet="\x1b[O~A20m;a\n", max_size=30), st.integers(0, 30))
def test_sequences_are_the_same_in_two_pieces(text: str, cut: int) -> None:
    whole, rest = _keys(text)
    first, kept = _keys(text[:cut])
    second, kept = _keys(kept + text[cut:])
    assert (first + second, kept) == (whole, rest)
