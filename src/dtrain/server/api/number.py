"""Numbers in addresses."""

from __future__ import annotations

from werkzeug.routing import BaseConverter, Map

DIGITS = 18
"""Of a number that a column of 64 bits can hold, whichever they are."""
FEW_DIGITS = 9
"""Likewise, for 32 bits."""


class NumberConverter(BaseConverter):
    """A whole number of so many digits at most; anything else is no address, with any method."""

    def __init__(self, url_map: Map, digits: int = DIGITS) -> None:
        super().__init__(url_map)
        self.regex = f"[0-9]{{1,{digits}}}"

    def to_python(self, value: str) -> int:
        """The number."""
        return int(value)
