"""The description of the API as a page shows it: OpenAPI taken apart for a template."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .endpoint import BYTES, FORM, JSON
from .number import DIGITS

Schema = Mapping[str, Any]
ADDRESS = "$DTRAIN"
"""Stands for the server's own address in examples."""
_BOUNDS = (
    ("minimum", "from {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "up to {}"),
    ("minLength", "{} characters at least"),
    ("maxLength", "{} characters at most"),
    ("maxItems", "{} at most"),
    ("maxProperties", "{} at most"),
)
_UNSAID = {
    ("minimum", 0),
    ("minLength", 1),
    ("maximum", 2**53),
    ("maximum", 2**63 - 1),
    ("maximum", 10**DIGITS - 1),
}
"""Bounds that go without saying."""
_REQUIRED = "required"
_WORDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}


@dataclass(frozen=True)
class Kind:
    """What a value may be: words, and the names of schemas between them."""

    parts: tuple[tuple[str, bool], ...]
    """Text, and whether it is the name of a schema."""
    bounds: str = ""


@dataclass(frozen=True)
class Row:
    """A parameter, or a field."""

    name: str
    where: str
    """`path`, `query`, `header`; empty for a field."""
    kind: Kind
    mark: str
    """`required`, of what a request brings; `may be absent`, of an answer."""
    description: str
    default: str | None


@dataclass(frozen=True)
class Body:
    """One form in which a request may bring something."""

    media_type: str
    schema: str | None
    rows: tuple[Row, ...]
    """Of a schema that has no name."""


@dataclass(frozen=True)
class Answer:
    """What may come back."""

    status: str
    description: str
    kinds: tuple[tuple[str, str | None], ...]
    """Media types, each with the name of its schema."""
    headers: tuple[str, ...]


@dataclass(frozen=True)
class Operation:
    """One address with one method."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    rows: tuple[Row, ...]
    bodies: tuple[Body, ...]
    answers: tuple[Answer, ...]
    errors: tuple[Answer, ...]
    curls: tuple[str, ...]
    """Lines to type, with `ADDRESS` for the server's."""


@dataclass(frozen=True)
class Message:
    """A schema with a name."""

    name: str
    description: str
    rows: tuple[Row, ...]
    values: tuple[str, ...]
    """Of a word: all that it may be."""
    example: str | None


@dataclass(frozen=True)
class Group:
    """Operations under one heading."""

    title: str
    id: str
    description: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Docs:
    """All of the page."""

    version: str
    description: str
    groups: tuple[Group, ...]
    messages: tuple[Message, ...]
    needs_token: bool

    @classmethod
    def of(cls, document: Schema) -> Docs:
        """The page of an OpenAPI document of ours."""
        needs_token = {} not in document["security"]
        responses = document["components"]["responses"]
        groups = [
            Group(
                title=tag["name"],
                id=_anchor(tag["name"]),
                description=tag["description"],
                operations=tuple(
                    _operation(path, method, operation, responses, needs_token=needs_token)
                    for path, item in document["paths"].items()
                    for method, operation in item.items()
                    if operation["tags"] == [tag["name"]]
                ),
            )
            for tag in document["tags"]
        ]
        return cls(
            version=document["info"]["version"],
            description=document["info"]["description"],
            groups=tuple(groups),
            messages=tuple(
                _message(name, schema) for name, schema in document["components"]["schemas"].items()
            ),
            needs_token=needs_token,
        )


def _operation(
    path: str, method: str, operation: Schema, responses: Schema, *, needs_token: bool
) -> Operation:
    answers = [
        _answer(status, responses.get(answer.get("$ref", "").rpartition("/")[2], answer))
        for status, answer in operation["responses"].items()
    ]
    content = operation.get("requestBody", {}).get("content", {})
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation["description"],
        rows=tuple(
            _row(
                one["name"],
                one,
                one["schema"],
                where=one["in"],
                mark=_REQUIRED if one.get("required") else "",
            )
            for one in operation["parameters"]
        ),
        bodies=tuple(_body(kind, body) for kind, body in content.items()),
        answers=tuple(one for one in answers if one.status < "400"),
        errors=tuple(one for one in answers if one.status >= "400"),
        curls=tuple(_curls(path, method.upper(), operation, needs_token=needs_token)),
    )


def _row(name: str, told: Schema, schema: Schema, *, where: str = "", mark: str) -> Row:
    default = schema.get("default")
    return Row(
        name=name,
        where=where,
        kind=kind_of(schema),
        mark=mark,
        description=told.get("description", ""),
        default=None if default in (None, [], {}) else json.dumps(default),
    )


def kind_of(schema: Schema) -> Kind:
    """What a schema lets a value be, in words."""
    if "$ref" in schema:
        return Kind(((schema["$ref"].rpartition("/")[2], True),))
    if "anyOf" in schema:
        kinds = [kind_of(one) for one in schema["anyOf"]]
        parts = [part for kind in kinds for part in ((" or ", False), *kind.parts)]
        return Kind(tuple(parts[1:]), ", ".join(kind.bounds for kind in kinds if kind.bounds))
    if "const" in schema or "enum" in schema:
        words = schema.get("enum", [schema.get("const")])
        return Kind(((", ".join(map(str, words)), False),))
    kind = schema.get("type", "anything")
    if kind == "array":
        inner = kind_of(schema.get("items", {}))
        return Kind((("list of ", False), *inner.parts), _bounds(schema))
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        inner = kind_of(schema["additionalProperties"])
        return Kind((("map to ", False), *inner.parts), _bounds(schema))
    if schema.get("format") == "binary":
        return Kind((("file", False),))
    word = "time" if schema.get("format") == "date-time" else _WORDS.get(kind, str(kind))
    return Kind(((word, False),), _bounds(schema))


def _bounds(schema: Schema) -> str:
    return ", ".join(
        words.format(f"{schema[name]:,}")
        for name, words in _BOUNDS
        if name in schema and (name, schema[name]) not in _UNSAID
    )


def _body(media_type: str, body: Schema) -> Body:
    schema = body.get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2] or None
    return Body(media_type, name, _rows(schema))


def _rows(schema: Schema) -> tuple[Row, ...]:
    required = schema.get("required", [])
    asks = schema.get("additionalProperties") is False  # answers may gain fields
    marks = (_REQUIRED, "") if asks else ("", "may be absent")
    return tuple(
        _row(name, field, field, mark=marks[name not in required])
        for name, field in schema.get("properties", {}).items()
    )


def _answer(status: str, answer: Schema) -> Answer:
    kinds = [
        (kind, content.get("schema", {}).get("$ref", "").rpartition("/")[2] or None)
        for kind, content in answer.get("content", {}).items()
    ]
    return Answer(status, answer["description"], tuple(kinds), tuple(answer.get("headers", ())))


def _message(name: str, schema: Schema) -> Message:
    found = schema.get("examples", [])
    return Message(
        name=name,
        description=schema.get("description", ""),
        rows=_rows(schema),
        values=tuple(map(str, schema.get("enum", ()))),
        example=json.dumps(found[0], indent=2) if found else None,
    )


def _curls(path: str, method: str, operation: Schema, *, needs_token: bool) -> Iterator[str]:
    address = _address(path, operation["parameters"])
    start = ["curl"]
    schemes = [name for scheme in operation.get("security", [{"token": []}]) for name in scheme]
    if "token" not in schemes and schemes:
        start.append(f'-H "Authorization: Bearer ${schemes[0].upper()}"')
    elif schemes and needs_token:
        start.append('-H "Authorization: Bearer $DTRAIN_TOKEN"')
    if any(
        "text/event-stream" in one.get("content", {}) for one in operation["responses"].values()
    ):
        start.append("-N")
    start += [
        f'-H "{one["name"]}: {one["example"]}"'
        for one in operation["parameters"]
        if one["in"] == "header" and one.get("required")
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    if not bodies:
        verb = [] if method == "GET" else [f"-X {method}"]
        yield " ".join([*start, *verb, address])
    for kind, body in bodies.items():
        yield " \\\n  ".join([" ".join([*start, f"-X {method}", address]), *_sent(kind, body)])


def _sent(media_type: str, body: Schema) -> list[str]:
    """The options of curl that send an example of a body."""
    if media_type == FORM:
        return [f"-F {shlex.quote(f'{name}={text}')}" for name, text in body["example"].items()]
    if media_type == JSON:
        example = json.dumps(body["example"], indent=2) if "example" in body else "@message.json"
        return [f"--json {shlex.quote(example)}"]
    return [f"-H 'Content-Type: {BYTES}'", "--data-binary @file"]


def _address(path: str, parameters: list[Schema]) -> str:
    query = []
    for one in parameters:
        if one["in"] == "path":
            text = quote(str(one.get("example", one["name"])), safe="/")
            path = path.replace(f"{{{one['name']}}}", text)
        elif one["in"] == "query" and one.get("required"):
            query.append(f"{one['name']}={one.get('example', '…')}")
    return f"'{ADDRESS}{path}?{'&'.join(query)}'" if query else f"{ADDRESS}{path}"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
