"""The account of a run under faults: what was done to the programs, and what was lost by it."""

from __future__ import annotations

from collections import Counter

faults: Counter[str] = Counter()
"""How often each kind of fault was done."""
losses: Counter[str] = Counter()
"""What was lost; a kind that was looked for stands there with zero."""


def table() -> list[str]:
    """Both, as lines for people."""
    rows = [*faults.most_common(), ("faults in all", faults.total()), *sorted(losses.items())]
    return [f"{what:<46}{number:>12,}" for what, number in rows]
