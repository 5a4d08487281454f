"""Reading what a request carries: strictly, and never trusting it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
from flask import request

from dtrain.protocol.complaints import complaint
from dtrain.protocol.errors import Invalid

LARGEST_INTEGER = 2**63 - 1
"""What every database can hold."""
Place = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_INTEGER)]
"""A parameter that counts bytes or lines."""
Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""A parameter that counts attempts or records; columns of these are narrower."""
Text = Annotated[str, msgspec.Meta(max_length=1000, pattern=r"^[^\x00]*$")]
"""A parameter that is a text to look for."""

A = TypeVar("A", bound=msgspec.Struct)


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters that an address takes behind its question mark."""


Q = TypeVar("Q", bound=Query)


def read_query(kind: type[Q]) -> Q:
    """The parameters of the present request.

    Raises:
        Invalid: one is unknown, given twice, or not acceptable.
    """
    given: dict[str, str] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Invalid(f"The parameter {_shown(name)} is given twice.", field=name[:100])
        if "\0" in values[0]:
            raise _unstorable(f"The parameter {_shown(name)}", name[:100])
        if values[0] != "":
            given[name] = values[0]
    try:
        found = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(error, "parameter") from None
    for name, text in given.items():
        if getattr(found, name) is None:  # so msgspec reads the word null
            raise Invalid(f"The parameter {name} is not acceptable: {text!r}.", field=name)
    return found


def read_message(kind: type[A]) -> A:
    """The JSON in the body of the present request.

    Raises:
        Invalid: it is no JSON (400), not said to be JSON (415), or not the message (422).
    """
    return as_message(read_body(), kind)


def read_body() -> object:
    """The JSON in the body of the present request.

    Raises:
        Invalid: it is no JSON (400), not said to be JSON (415), or holds what no database can.
    """
    if request.mimetype != "application/json":
        raise Invalid(
            "The body must be JSON, with the header Content-Type: application/json.",
            code="not_json",
            status=415,
        )
    return read_json(request.get_data(cache=False), "The body")


def read_json(data: bytes, what: str) -> object:
    """The value that JSON stands for; `what` holds it, for sentences.

    Raises:
        Invalid: it is no JSON (400), or holds what no database can.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except (ValueError, RecursionError) as error:
        raise Invalid(
            f"{what} is not JSON: {_reason(error)}.", code="not_json", status=400
        ) from None


def as_message(found: object, kind: type[A]) -> A:
    """A JSON value as a message.

    Raises:
        Invalid: it is not that message.
    """
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise _refusal(error, "field") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    for name, value in pairs:
        if counts[name] > 1:
            raise Invalid(f"The field {_shown(name)} is given twice.", field=name[:100])
        for text in (name, *(value if isinstance(value, list) else [value])):
            if isinstance(text, str) and not _is_storable(text):
                raise _unstorable(f"The field {_shown(name)}", None)
    return dict(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise Invalid(f"The JSON holds {name}, which is no number in JSON; leave it out.")


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) < 25 else LARGEST_INTEGER + 1
    if abs(number) > LARGEST_INTEGER:
        raise Invalid(f"The JSON holds the number {_shown(digits)}, which is too large.")
    return number


def _float(digits: str) -> float:
    """The number; a whole one as such, since to JSON 2.0 is 2."""
    number = float(digits)
    if not math.isfinite(number):
        raise Invalid(f"The JSON holds the number {_shown(digits)}, which is too large.")
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _unstorable(what: str, field: str | None) -> Invalid:
    return Invalid(f"{what} holds a character that cannot be stored; remove it.", field=field)


def _refusal(error: msgspec.ValidationError, what: str) -> Invalid:
    words, where = complaint(error, from_text=what == "parameter")
    unknown = re.fullmatch(r"object contains unknown field (.*)", words, re.DOTALL)
    if unknown:
        name = unknown[1]
        return Invalid(f"There is no {what} {_shown(name)} here; leave it out.", field=name[:100])
    missing = re.fullmatch(r"object missing required field (\w+)", words)
    if missing:
        return Invalid(f"The {what} {missing[1]} is missing.", field=missing[1])
    subject = f"The {what} {where}" if where else "The body"
    return Invalid(f"{subject} is not acceptable: {words}.", field=where or None)


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)[:1].lower() + str(error)[1:]


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}…'"
