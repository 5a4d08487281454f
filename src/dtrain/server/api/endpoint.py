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

from .number import FEW_DIGITS
from .reading import Query, read_message, read_query

JSON = "application/json"
FORM = "multipart/form-data"
TEXT = "text/plain"
BYTES = "application/octet-stream"
ZIP = "application/zip"
_CONVERTERS = {
    "job_id": "number",
    "attempt": f"number(digits={FEW_DIGITS})",
    "generation": f"number(digits={FEW_DIGITS})",
    "path": "path",
}
"""Of the parts of an address that are no plain text."""
_PART = re.compile(r"\{(\w+)\}")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One address with one method, and all that its description has to say."""

    method: str
    template: str
    """From `protocol.routes`."""
    group: str
    """The name of the group that it is in."""
    summary: str
    function: Callable[..., Any]
    """Takes the parts of the address by name, and `message` and `query` where there are such."""
    message: type[Ask] | None
    body: str | None
    """The media type of a body that is no message."""
    query: type[Query]
    answer: type[Answer] | None
    """The message that comes back."""
    content: tuple[str, ...]
    """The media types in which something else may come back."""
    status: int
    also: tuple[int, ...]
    """The other statuses of success."""
    errors: tuple[int, ...]
    """The statuses of errors beside those that follow from what it takes."""
    asks: tuple[str, ...]
    """The headers of a request that matter."""
    gives: tuple[str, ...]
    """The headers of an answer that matter."""

    @property
    def parts(self) -> list[str]:
        """The names of the parts of the address."""
        return _PART.findall(self.template)

    @property
    def name(self) -> str:
        """What it is called within the application; that of the server's own group is short."""
        name = self.function.__name__
        return f"{self.group}.{name}" if self.group else name

    @property
    def is_strict(self) -> bool:
        """Whether parameters that are not known are refused; who watches may send some."""
        return self.template.startswith("/api/")

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
    title: str
    """What the group is called where endpoints are described."""
    description: str
    endpoints: list[Endpoint] = field(default_factory=list)

    def __call__(
        self,
        method: str,
        template: str,
        *,
        summary: str,
        message: type[Ask] | None = None,
        body: str | None = None,
        query: type[Query] = Query,
        answer: type[Answer] | str | None = None,
        content: tuple[str, ...] = (),
        status: int = 200,
        also: tuple[int, ...] = (),
        errors: tuple[int, ...] = (),
        asks: tuple[str, ...] = (),
        gives: tuple[str, ...] = (),
    ) -> Callable[[F], F]:
        """Make the decorated function an endpoint.

        It gives the answer's message, None for an answer without content, or a whole response.
        `answer` may be the media type of the content instead of a message; `content` names more.
        """
        told = None if isinstance(answer, str) else answer
        kinds = (answer, *content) if isinstance(answer, str) else content

        def add(function: F) -> F:
            self.endpoints.append(
                Endpoint(
                    method=method,
                    template=template,
                    group=self.name,
                    summary=summary,
                    function=function,
                    message=message,
                    body=body,
                    query=query,
                    answer=told,
                    content=kinds,
                    status=status,
                    also=also,
                    errors=errors,
                    asks=asks,
                    gives=gives,
                )
            )
            return function

        return add

    def register(self, app: Flask) -> None:
        """Add the endpoints to the application."""
        for endpoint in self.endpoints:
            app.add_url_rule(
                endpoint.rule, endpoint.name, _view(endpoint), methods=[endpoint.method]
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
        if endpoint.query is not Query:
            parts["query"] = read_query(endpoint.query)
        elif endpoint.is_strict:
            read_query(Query)
        if endpoint.message is not None:
            parts["message"] = read_message(endpoint.message)
        answer = endpoint.function(**parts)
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, str):
            return Response(answer, mimetype=endpoint.content[0])
        if answer is None:
            return Response(status=204)
        return reply(answer, endpoint.status)

    return view
