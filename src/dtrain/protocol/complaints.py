"""What msgspec finds wrong with a value, put to a person."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "names with values",
    "null": "null",
}
_PARTS = {"str": "characters", "bytes": "bytes", "array": "items", "object": "pairs"}
_BOUNDS = {">=": "of at least", "<=": "of at most", ">": "greater than", "<": "smaller than"}
_TYPE = re.compile(r"Expected `([^`]+)`, got `([a-z]+)`")
_BOUND = re.compile(r"Expected `([^`]+)` ([<>]=?) (\S+)")
_LENGTH = re.compile(r"Expected `([^`]+)` of length ([<>]=) (\d+)")
_REQUIRED_FORM = re.compile(r"Expected `str` matching regex .*", re.DOTALL)


class Complaint(NamedTuple):
    """A complaint in its parts."""

    words: str
    """The end of a sentence, after a colon and without a full stop."""
    where: str
    """The path of the value, such as `labels[...]`; empty for the whole."""


def complaint(error: msgspec.ValidationError, *, from_text: bool = False) -> Complaint:
    """What is wrong, and where, of msgspec's ``Complaint - at `$.path` ``.

    Args:
        error: as it was raised.
        from_text: whether text stood for values of any type, so that "not text" would not help.
    """
    text, _, place = str(error).rpartition(" - at `")
    if not text:
        return Complaint(_in_words(str(error), from_text=from_text), "")
    path = place.rpartition("$")[2].removeprefix(".").removesuffix("`")
    in_key = "[...]" if place.startswith("key`") else ""
    return Complaint(_in_words(text, from_text=from_text), path + in_key)


def _in_words(text: str, *, from_text: bool) -> str:
    if found := _TYPE.fullmatch(text):
        got = "" if from_text and found[2] == "str" else f", not {_kind(found[2])}"
        wanted = found[1].replace(" | null", "") if from_text else found[1]
        return f"it must be {_kind(wanted)}{got}"
    if found := _BOUND.fullmatch(text):
        return f"it must be {_kind(found[1])} {_BOUNDS[found[2]]} {float(found[3]):,.15g}"
    if found := _LENGTH.fullmatch(text):
        bound = "at least" if found[2] == ">=" else "at most"
        number, parts = int(found[3]), _PARTS[found[1]]
        return f"it must have {bound} {number:,} {parts if number != 1 else parts[:-1]}"
    if _REQUIRED_FORM.fullmatch(text):
        return "it is not written as it must be"
    if text.endswith("out of range"):
        return "the number is too large"
    return text[:1].lower() + text[1:].replace("`", "")


def _kind(types: str) -> str:
    return " or ".join(_KINDS.get(name, name) for name in types.split(" | "))
