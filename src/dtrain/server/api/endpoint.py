"""Endpoints: from a function over messages to an address that answers HTTP, and a record of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from flask import Flask, Response

from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import Answer, Ask, encode

from .reading import Query, read_message, read_query

JSON = "application/json"
_CONVERTERS = {"job_id": "number", "attempt": "number(bits=31)", "path": "path"}
"""Of the parts of an address that are no plain text."""
_PART = re.compile(r"\{(\w+)\}")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Endpoint:
    """One address with one method."""

    method: str
    template: str
    """From `protocol.routes`."""
    summary: str
    function: Callable[..., Any]
    """Takes the parts of the address by name, and `message` and `query` where there are such."""
    message: type[Ask] | None
    query: type[Query] | None
    answer: type[Answer] | str | None
    """The message that comes back, the media type of other content, or None for nothing."""
    status: int

    @property
    def parts(self) -> list[str]:
        """The names of the parts of the address."""
        return _PART.findall(self.template)

    @property
    def rule(self) -> str:
        """The address as Flask writes it."""
        return _PART.sub(
            lambda part: f"<{_CONVERTERS.get(part[1], 'string')}:{part[1]}>", self.template
        )


@dataclass(frozen=True)
class Endpoints:
    """A group of endpoints under one name."""

    name: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def __call__(
        self,
        method: str,
        template: str,
        *,
        summary: str,
        message: type[Ask] | None = None,
        query: type[Query] | None = None,
        answer: type[Answer] | str | None = None,
        status: int = 200,
    ) -> Callable[[F], F]:
        """Make the decorated function an endpoint.

        It gives the answer's message, None for an answer without content, or a whole response.
        """

        def add(function: F) -> F:
            self.endpoints.append(
                Endpoint(method, template, summary, function, message, query, answer, status)
            )
            return function

        return add

    def register(self, app: Flask) -> None:
        """Add the endpoints to the application."""
        for endpoint in self.endpoints:
            app.add_url_rule(
                endpoint.rule,
                f"{self.name}.{endpoint.function.__name__}",
                _view(endpoint),
                methods=[endpoint.method],
            )


def reply(message: Answer, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """A message as a response."""
    response = Response(encode(message), status, mimetype=JSON)
    response.headers.extend(headers)
    response.headers["Cache-Control"] = "no-store"
    return response


def _view(endpoint: Endpoint) -> Callable[..., Response]:
    @wraps(endpoint.function)
    def view(**parts: Any) -> Response:
        for value in parts.values():
            if isinstance(value, str) and "\0" in value:
                raise NotFound("There is nothing at this address.")
        if endpoint.query is not None:
            parts["query"] = read_query(endpoint.query)
        if endpoint.message is not None:
            parts["message"] = read_message(endpoint.message)
        answer = endpoint.function(**parts)
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status=204)
        return reply(answer, endpoint.status)

    return view
