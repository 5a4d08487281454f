"""Lengths of time as people write them."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORM = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)\s*", re.ASCII)


def in_seconds(text: str) -> float | None:
    """The seconds that `90`, `90s`, `15m`, `2h` or `1d` stand for; None if it is no duration."""
    found = _FORM.fullmatch(text)
    return float(found[1]) * _UNITS[found[2] or "s"] if found else None
