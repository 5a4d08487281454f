"""Which lines are looked for: the quick way finds what looking at each line finds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.progress import level_of
from dtrain.server.rules import matching
from dtrain.server.rules.matching import LEVELS, Filter

LINES = st.one_of(
    st.sampled_from(
        [
            "INFO: begins",
            "2026-01-01 10:00:00 - x - ERROR - Oh",
            "2026-01-01 10:00:00,123 WARN slow",
            "[1;31m] CRITICAL | gone",
            "\x1b[31mERR\x1b[0mOR: coloured",
            "Traceback (most recent call last):",
            "ValueError: no",
            "MeanSquaredError: 0.25",
            "KeyboardInterrupt",
            "x.py:1: UserWarning: old",
            '  PROGRESS: {"loss": 1}',
            "Größe STRASSE",
            "an ERROR in passing",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12),
)
LEVEL_SETS = st.frozensets(st.sampled_from(LEVELS))
TEXTS = st.sampled_from(["", "error", "O", "strasse", "größe", "[31m", " - ", "1"])


def slowly(lines: list[str], levels: frozenset[str], text: str) -> list[int]:
    """What is looked for, one line after the other."""

    def holds(line: str) -> bool:
        shown = re.sub(r"\x1b\[[0-9;]*m", "", line)
        folded = shown.lower() if text.isascii() else shown.casefold()
        return text.casefold() in folded

    return [
        index
        for index, line in enumerate(lines)
        if holds(line) and (not levels or level_of(line) in levels)
    ]


@given(st.lists(LINES, min_size=1, max_size=30), LEVEL_SETS, TEXTS, st.sampled_from([0, 200]))
def test_what_is_found_is_what_each_line_says(
    lines: list[str], levels: frozenset[str], text: str, many: int
) -> None:
    data = "\n".join(lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_MANY", many)
        assert Filter(levels, text).matching(data) == slowly(lines, levels, text)


def test_a_filter_without_anything_leaves_nothing_out() -> None:
    assert not Filter()
    assert Filter().matching(b"a\n\nb") == [0, 1, 2]
