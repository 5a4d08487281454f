"""How things are put to a person in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import msgspec

_UNSEEN = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""Control characters, and those that turn the direction of writing."""
_ONE_LINE = dict.fromkeys(_UNSEEN, "\ufffd") | dict.fromkeys(map(ord, "\t\r\n"), " ")
_LINES = {code: sign for code, sign in _ONE_LINE.items() if code not in map(ord, "\t\n")}


def clean(text: str) -> str:
    """Text from elsewhere as one line that cannot act on the terminal."""
    return text.translate(_ONE_LINE)


def clean_lines(text: str) -> str:
    """Lines from elsewhere that cannot act on the terminal."""
    return text.translate(_LINES)


def complain(sentence: str) -> None:
    """Say on stderr what is wrong."""
    click.echo(f"dtrain: {clean(sentence)}", err=True)


def print_json(value: object) -> None:
    """Print a message as JSON, for programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def age(when: datetime) -> str:
    """How long ago a time was: `3 min ago`."""
    seconds = (datetime.now(UTC) - when).total_seconds()
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def local(when: datetime) -> str:
    """A time as the clock here shows it."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A time span in its largest unit, or its two largest ones where that matters."""
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min" if minutes >= 10 else f"{minutes} min {int(seconds % 60)} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes in a unit that fits; a kB is 1024 bytes."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TB"
