"""Numbers in addresses."""

from __future__ import annotations

from werkzeug.routing import BaseConverter, Map, ValidationError


class NumberConverter(BaseConverter):
    """A whole number that a database can hold; anything else is no address."""

    regex = "[0-9]{1,19}"

    def __init__(self, url_map: Map, bits: int = 63) -> None:
        super().__init__(url_map)
        self._bits = bits

    def to_python(self, value: str) -> int:
        """The number; ValidationError if it is too large."""
        number = int(value)
        if number.bit_length() > self._bits:
            raise ValidationError
        return number
