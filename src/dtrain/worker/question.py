"""What an owner types at the question whether a job may run, and what it means.

Pure: keys and the time go in, the owner's will comes out. A letter acts by itself when for a
moment nothing follows; so it can be pressed alone, and a whole word can be typed and ended with
Enter. Whatever is no answer is none: no garbage, no key without a sign, no pasted text.
"""

from __future__ import annotations

import msgspec

from dtrain.protocol.duration import in_seconds
from dtrain.protocol.messages import LONGEST_REASON

from .keyboard import ESCAPE, PASTED

PAUSE = 0.4
"""Seconds without a further key after which a letter acts."""
LATER = 300.0
"""Seconds until an offer that was put off is shown again."""
HELP = (
    "a: accept; d: decline, and say why if you like; l: ask again in 5 minutes, or type later 30m;"
    " f: the bundle's files; ?: all that was said about the job."
)
_WORDS = {
    **dict.fromkeys(("a", "accept", "y", "yes"), "accept"),
    **dict.fromkeys(("d", "decline", "n", "no"), "decline"),
    **dict.fromkeys(("?", "details"), "details"),
    **dict.fromkeys(("f", "files"), "files"),
    **dict.fromkeys(("l", "later"), "later"),
    **dict.fromkeys(("h", "help"), "help"),
}
_AT_ONCE = "?"
"""Begins no word, so there is nothing to wait for."""
_BACK, _DELETE, _KILL, _ENTER = "\x08", "\x7f", "\x15", ("\n", "\r")
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


class Accept(msgspec.Struct, frozen=True):
    """Run it."""


class Decline(msgspec.Struct, frozen=True):
    """Never run it here."""

    reason: str | None = None


class Later(msgspec.Struct, frozen=True):
    """Ask again."""

    seconds: float = LATER


class Details(msgspec.Struct, frozen=True):
    """Show all that was said about it."""


class Files(msgspec.Struct, frozen=True):
    """Show what is in its bundle."""


class Help(msgspec.Struct, frozen=True):
    """What was typed is no answer; say what can be."""

    text: str = HELP


class Again(msgspec.Struct, frozen=True):
    """Nothing was said, or something else is asked now: put the question again."""


Will = Accept | Decline | Later | Details | Files | Help | Again


class Question:
    """The question about one offer."""

    def __init__(self) -> None:
        self.typed = ""
        """What stands behind the question."""
        self.asks_reason = False
        """Whether the question is why not."""
        self.acts_at: float | None = None
        """When the letter that stands there acts, if nothing follows."""

    def press(self, key: str, now: float) -> Will | None:
        """Take a key, or pasted text; what the owner wants, if that is known by now."""
        self.acts_at = None
        if key.startswith(PASTED):
            return self._paste(key.removeprefix(PASTED))
        if key in _ENTER:
            return self._enter()
        if key == ESCAPE or (key == _KILL and not self.typed):
            back = self.asks_reason
            self.typed, self.asks_reason = "", False
            return Again() if back else None
        if key == _KILL:
            self.typed = ""
        elif key in {_BACK, _DELETE}:
            self.typed = self.typed[:-1]
        elif len(self.typed) < LONGEST_REASON:
            # What does not print is not left out: a word with something in it is not that word.
            self.typed = (self.typed + (key if key.isprintable() else _UNPRINTABLE)).lstrip()
            if self.typed == _AT_ONCE and not self.asks_reason:
                return self._enter()
            if len(self.typed) == 1 and not self.asks_reason:
                self.acts_at = now + PAUSE
        return None

    def pause(self, now: float) -> Will | None:
        """Nothing was pressed until now; what the owner wants, if a letter waited for that."""
        if self.acts_at is None or now < self.acts_at:
            return None
        self.acts_at = None
        return self._enter()

    def forget(self) -> None:
        """Take what was typed as if it had not been."""
        self.typed, self.acts_at = "", None

    def _paste(self, text: str) -> Will | None:
        if not self.asks_reason:
            self.typed = ""
            return Help("What is pasted is no answer; press a key.")
        line = "".join(one if one.isprintable() else " " for one in text)
        self.typed = (self.typed + line)[:LONGEST_REASON]
        return None

    def _enter(self) -> Will:
        typed, self.typed = self.typed.strip(), ""
        if self.asks_reason:
            return Decline(typed or None)
        if not typed:
            return Again()
        first, _, rest = typed.partition(" ")
        rest = rest.strip()
        match _WORDS.get(first.lower()):
            case "accept" if not rest:
                return Accept()
            case "decline" if rest:
                return Decline(rest)
            case "decline":
                self.asks_reason = True
                return Again()
            case "later":
                return _later(rest)
            case "details" if not rest:
                return Details()
            case "files" if not rest:
                return Files()
        return Help()


def _later(length: str) -> Will:
    if not length:
        return Later()
    # What stands alone is minutes: nobody puts a job off for seconds.
    seconds = in_seconds(f"{length}m" if length.isdecimal() else length)
    if seconds is None or not 0 < seconds <= 7 * 86400:
        return Help("later takes a length of time, such as later 30m or later 2h; 7 days at most.")
    return Later(seconds)
