"""The description of the API for programs (OpenAPI 3.1), made from the endpoints themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response

from dtrain import __version__
from dtrain.protocol import routes
from dtrain.protocol.errors import Problem
from dtrain.protocol.spec import JobSpec

from .endpoint import JSON, Endpoint

ADDRESS = "/api/openapi.json"
_REFERENCE = "#/components/schemas/{name}"
_FORM = "multipart/form-data"


def register(app: Flask, endpoints: Sequence[Endpoint]) -> None:
    """Add the address of the description."""
    description = msgspec.json.encode(document(endpoints))

    def openapi() -> Response:
        return Response(description, mimetype=JSON)

    app.add_url_rule(ADDRESS, "openapi", openapi)


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The description of the endpoints."""
    paths: dict[str, Any] = {}
    messages: set[type] = {Problem, JobSpec}
    for endpoint in endpoints:
        operations = paths.setdefault(endpoint.template, {})
        operations[endpoint.method.lower()] = _operation(endpoint)
        if endpoint.message is not None:
            messages.add(endpoint.message)
        if isinstance(endpoint.answer, type):
            messages.add(endpoint.answer)
    ordered = sorted(messages, key=lambda message: message.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {"title": "DTrain", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.function.__name__
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.function.__module__.rpartition('.')[2]}_{name}",
        "summary": endpoint.summary,
        "parameters": [*_address_parameters(endpoint), *_query_parameters(endpoint)],
        "responses": {str(endpoint.status): _success(endpoint), "default": _failure()},
    }
    if endpoint.message is not None:
        operation["requestBody"] = _body({JSON: {"schema": _refer(endpoint.message)}})
    elif (endpoint.method, endpoint.template) == ("POST", routes.JOBS):
        operation["requestBody"] = _body({_FORM: {"schema": _form()}})
    return operation


def _address_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    kinds = {"job_id": {"type": "integer"}, "attempt": {"type": "integer"}}
    return [
        {
            "name": part,
            "in": "path",
            "required": True,
            "schema": kinds.get(part, {"type": "string"}),
        }
        for part in endpoint.parts
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = msgspec.json.schema(endpoint.query)["$defs"][endpoint.query.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema["properties"].items()
    ]


def _success(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if isinstance(endpoint.answer, str):
        found["content"] = {endpoint.answer: {}}
    elif endpoint.answer is not None:
        found["content"] = {JSON: {"schema": _refer(endpoint.answer)}}
    return found


def _failure() -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _refer(Problem)}}
    return {"description": "What is wrong, and what to do", "content": content}


def _form() -> dict[str, Any]:
    """The fields of the spec, with the file beside them."""
    _, schemas = msgspec.json.schema_components([JobSpec], ref_template=_REFERENCE)
    spec = schemas["JobSpec"]
    properties = {**spec["properties"], "file": {"contentMediaType": "application/zip"}}
    return {"type": "object", "properties": properties, "required": [*spec["required"], "file"]}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": content}


def _refer(message: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=message.__name__)}
