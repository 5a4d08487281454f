"""How values are shown: numbers, sizes, times, and text that comes from a job.

`frontend/web/numbers.ts` and `text.ts` show what arrives later in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from dtrain.protocol.progress import AXES, COUNTERS
from dtrain.protocol.progress import number as as_number

_LONGEST = 10_000
_CODE = re.compile("`([^`]+)`")
_OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_UNSHOWN = "\N{REPLACEMENT CHARACTER}"


def number(value: object) -> str:
    """A metric's value: four significant digits, integers whole."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (int, float)):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    mantissa, _, exponent = f"{value:.3e}".partition("e")
    power = int(exponent)
    if power < -4 or power >= 6:
        return f"{float(mantissa):g}e{power}"
    return _plain(f"{float(f'{value:.4g}'):.{max(3 - power, 0)}f}")


def _plain(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def percent(fraction: float) -> str:
    """A share of one, never rounded up to the whole."""
    return f"{int(fraction * 100)}%"


def size(count: float) -> str:
    """Bytes, in units of 1000."""
    units = ("B", "kB", "MB", "GB", "TB")
    unit = 0
    while count >= 1000 and unit < len(units) - 1:
        count /= 1000
        unit += 1
    return f"{count:.1f} {units[unit]}" if unit and count < 100 else f"{count:.0f} {units[unit]}"


def memory(count: float) -> str:
    """Bytes of memory, in units of 1024³, as jobs ask for it."""
    units = count / 1024**3
    return f"{_plain(f'{units:.1f}' if units >= 1 else f'{units:.2f}')} GB"


def duration(length: timedelta | float) -> str:
    """A length of time in its two largest units."""
    whole = max(0, int(length.total_seconds() if isinstance(length, timedelta) else length))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02}h"


def age(length: timedelta) -> str:
    """How long ago, in one unit."""
    whole = max(0, int(length.total_seconds()))
    if whole < 5:
        return "just now"
    for unit, seconds in (("d", 86_400), ("h", 3600), ("m", 60)):
        if whole >= seconds:
            return f"{whole // seconds}{unit} ago"
    return f"{whole}s ago"


def iso(moment: datetime) -> str:
    """A time for machines."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def date(moment: datetime) -> str:
    """A time for people, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def words(name: str) -> str:
    """A word for programs, for people: `retry_wait` is `retry wait`."""
    return name.replace("_", " ")


def prose(sentence: str) -> Markup:
    """A sentence, with what stands in backticks as code."""
    shown = _CODE.sub(r"<code>\1</code>", str(escape(sentence)))
    return Markup(shown)  # noqa: S704 - escaped above


def visible(line: str) -> str:
    """A line of a log as it can be shown.

    Of a line that carriage returns began anew the last version counts; escape sequences are left
    out, for other control characters a sign stands, and it is not endless.
    """
    if "\r" in line:
        line = next((version for version in reversed(line.split("\r")) if version), "")
    line = _CONTROLS.sub(_UNSHOWN, _ANSI.sub("", line))
    return f"{line[:_LONGEST]} …" if len(line) > _LONGEST else line


def metrics(record: Mapping[str, Any] | None, limit: int | None = None) -> list[tuple[str, Any]]:
    """The numeric members of a PROGRESS record that are no axis, in their order."""
    found = [
        (name, value)
        for name, value in (record or {}).items()
        if name not in AXES and as_number(value) is not None
    ]
    return found[:limit]


def tiles(record: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The members of a PROGRESS record, in their order, with the total of those that have one."""
    totals = {
        done: next((record[name] for name in names if name in record), None)
        for done, names in COUNTERS.items()
    }
    return [
        (name, value, totals.get(name))
        for name, value in record.items()
        if name in totals or name not in AXES
    ]


def without_overrides(value: Any) -> Any:
    """Text whose characters stand in the order in which they are read.

    Characters that turn the direction of what follows can make `gpj.exe` look like `exe.jpg`;
    every value that a template shows goes through here.
    """
    if isinstance(value, str) and _OVERRIDES.search(value):
        return type(value)(_OVERRIDES.sub(_UNSHOWN, value))
    return value


FILTERS: dict[str, Callable[..., Any]] = {
    "age": age,
    "date": date,
    "duration": duration,
    "iso": iso,
    "memory": memory,
    "metrics": metrics,
    "number": number,
    "percent": percent,
    "prose": prose,
    "size": size,
    "tiles": tiles,
    "visible": visible,
    "words": words,
}
