"""The description of the API for programs (OpenAPI 3.1), made from the endpoints themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dtrain import __version__
from dtrain.protocol import routes
from dtrain.protocol.messages import Event, LogPiece, MetricRecord, Submission
from dtrain.protocol.problem import Problem
from dtrain.protocol.spec import JobFields, JobSpec

from . import examples
from .descriptions import fields_of, sentences
from .endpoint import FORM, JSON, Endpoint, Endpoints
from .headers import ASKS, GIVES
from .number import DIGITS, FEW_DIGITS
from .submission import FILE, SPEC

PROBLEM = "application/problem+json"
_REFERENCE = "#/components/schemas/{name}"
_WORKER_ROUTES = "/api/worker/"
_PAIRS = frozenset({"env", "labels"})
"""The fields that a form brings as NAME=value."""
_SERVER = "server"

_MEANINGS = {
    400: "The request is not one that the server can read.",
    401: "The token is missing or wrong.",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    409: "The state of things does not allow it.",
    410: "What it is about is gone.",
    413: "What was sent is too large.",
    415: "What was sent is of another media type than this address takes.",
    416: "The content does not reach so far; `offset` says how far it does.",
    422: "A field, a parameter, a header or a file is not acceptable; `field` names it.",
    429: "Too many wrong tokens came from this address; wait a little.",
    426: "Worker and server are of versions that cannot work together.",
    500: "The server made a mistake; its log says which.",
    503: "The server cannot do it now; try again.",
    507: "The server's disk is full; nothing was stored.",
}
_DONE = {
    200: "Done.",
    201: "Made.",
    202: "Taken, and not complete yet.",
    204: "Done; there is nothing to say.",
    206: "The range that was asked for.",
    304: "The content is still the one that the client has.",
}
_ERROR_HEADERS = {
    401: "WWW-Authenticate",
    416: "Content-Range",
    429: "Retry-After",
    503: "Retry-After",
}
_PAGE = "-page"
_REPEATED = "The submission had been received before: the job that was made of it."
_SCHEMES = {
    "token": (
        "The access token, which `dtrain token show` prints on the server's machine. A server that"
        " only its own machine can reach wants none."
    ),
    "worker": "A worker's own credential, which it makes, or is given, when it registers.",
    "enrolment": "The shared token of workers, to register with.",
}
_PARTS: dict[str, dict[str, Any]] = {
    "job_id": {
        "description": "The job's number.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**DIGITS - 1},
    },
    "attempt": {
        "description": "The attempt's number.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**FEW_DIGITS - 1},
    },
    "generation": {
        "description": "The checkpoint's generation.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**FEW_DIGITS - 1},
    },
    "sha256": {
        "description": "The SHA-256 of the content.",
        "schema": {"type": "string", "minLength": 1},
    },
    "path": {
        "description": "The file's path, which may hold slashes.",
        "schema": {"type": "string", "minLength": 1},
    },
    "worker_id": {
        "description": "The worker's id.",
        "schema": {"type": "string", "minLength": 1},
    },
    "answer_id": {
        "description": "The answer's id, as the poll brought it.",
        "schema": {"type": "string", "minLength": 1},
    },
}
_OTHER_PART = {"schema": {"type": "string", "minLength": 1}}


def document(groups: Sequence[Endpoints], *, is_open: bool) -> dict[str, Any]:
    """The description of the endpoints.

    Args:
        groups: the endpoints.
        is_open: whether callers on the server's own machine need no token.
    """
    paths: dict[str, Any] = {}
    for group in groups:
        for endpoint in group.endpoints:
            operation = _operation(endpoint, group.title)
            paths.setdefault(endpoint.template, {})[endpoint.method.lower()] = operation
    anyone: list[dict[str, list[str]]] = [{}] if is_open else []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DTrain",
            "version": __version__,
            "summary": "Hand in training code, have it run, watch it live.",
            "description": "Times are RFC 3339 in UTC, durations are seconds, sizes are bytes."
            " Answers may gain fields; requests with fields or parameters that are not known are"
            " refused.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": group.title, "description": group.description} for group in groups],
        "paths": paths,
        "components": {
            "schemas": _schemas(endpoint for group in groups for endpoint in group.endpoints),
            "responses": _failures(),
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": description}
                for name, description in _SCHEMES.items()
            },
        },
        "security": [*anyone, {"token": []}],
    }


def _schemas(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The messages, with what their docstrings say of each field, and examples."""
    messages: set[type] = {Problem, JobSpec, JobFields, Submission, Event, LogPiece, MetricRecord}
    for endpoint in endpoints:
        messages |= {kind for kind in (endpoint.message, endpoint.answer) if kind is not None}
    ordered = sorted(messages, key=lambda message: message.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    told = sentences()
    for name, schema in schemas.items():
        for field, sentence in told.get(name, {}).items():
            schema.get("properties", {}).get(field, {})["description"] = sentence
        if name in examples.SCHEMAS:
            schema["examples"] = [examples.SCHEMAS[name]]
    schemas["JobFields"]["description"] = "Fields of a job spec, any of which may be left out."
    schemas["Submission"]["description"] = (
        "A job as JSON hands it in: fields of the job spec, and the bundle by its SHA-256."
    )
    return dict(sorted(schemas.items()))


def _operation(endpoint: Endpoint, tag: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.group or _SERVER}_{endpoint.function.__name__}",
        "tags": [tag],
        "summary": endpoint.summary,
        "description": inspect.getdoc(endpoint.function) or "",
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    body = _body(endpoint)
    if body:
        operation["requestBody"] = {"required": True, "content": body}
    if endpoint.template == routes.REGISTER:
        operation["security"] = [{"enrolment": []}, {"worker": []}]
    elif endpoint.template.startswith(_WORKER_ROUTES):
        operation["security"] = [{"worker": []}]
    elif endpoint.template == routes.HEALTHZ:
        operation["security"] = []
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in endpoint.parts:
        known = _PARTS.get(part, _OTHER_PART)
        example = {"example": examples.PARTS[part]} if part in examples.PARTS else {}
        found.append({"name": part, "in": "path", "required": True, **known, **example})
    schema = msgspec.json.schema(endpoint.query)["$defs"][endpoint.query.__name__]
    told = fields_of(endpoint.query)
    for name, kind in schema["properties"].items():
        parameter = {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", []),
            "schema": _without_null(kind),
        }
        if name in told:
            parameter["description"] = told[name]
        if parameter["schema"].get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    found += [{"name": name, "in": "header", **ASKS[name]} for name in endpoint.asks]
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what text can say: without null, and a list where items are described."""
    choices = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    merged = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    if len(choices) == 1:
        merged |= choices[0]
    else:
        merged["anyOf"] = choices
    if "items" in merged:
        merged = {"type": "array", **{n: merged[n] for n in ("items", "maxItems") if n in merged}}
    if schema.get("default") is not None:
        merged["default"] = schema["default"]
    return merged


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    found = {
        str(status): _success(endpoint, status) for status in (endpoint.status, *endpoint.also)
    }
    kind = "" if endpoint.is_strict else _PAGE
    for status in sorted(_errors(endpoint)):
        found[str(status)] = {"$ref": f"#/components/responses/{status}{kind}"}
    return found


def _failures() -> dict[str, Any]:
    """The errors: problem documents under `/api`, pages elsewhere."""
    found: dict[str, Any] = {}
    for status, meaning in _MEANINGS.items():
        header = _ERROR_HEADERS.get(status)
        for kind, content in (
            ("", {PROBLEM: {"schema": _refer(Problem)}}),
            (_PAGE, {"text/html": {"schema": {"type": "string"}}}),
        ):
            response: dict[str, Any] = {"description": meaning, "content": content}
            if header:
                response["headers"] = {header: GIVES[header]}
            found[f"{status}{kind}"] = response
    return found


def _errors(endpoint: Endpoint) -> set[int]:
    """The statuses of what can go wrong: what follows from what the endpoint takes, and its own."""
    found = {400, 500, *endpoint.errors}
    if endpoint.is_strict:
        found.add(422)
    if endpoint.template != routes.HEALTHZ:
        found |= {401, 429, 503}
    if endpoint.method != "GET" or endpoint.template.startswith(_WORKER_ROUTES):
        found.add(403)
    if endpoint.parts:
        found.add(404)
    if endpoint.message or endpoint.body:
        found |= {413, 415}
    return found


def _success(endpoint: Endpoint, status: int) -> dict[str, Any]:
    repeated = status == 200 and endpoint.status == 201
    found: dict[str, Any] = {"description": _REPEATED if repeated else _DONE[status]}
    names = ("ETag",) if status == 304 else endpoint.gives
    if status == 206:
        names = ("Content-Range", *names)
    if names:
        found["headers"] = {name: GIVES[name] for name in names}
    if status in {204, 304}:
        return found
    content: dict[str, Any] = {}
    if endpoint.answer is not None and status != 206:
        content[JSON] = {"schema": _refer(endpoint.answer)}
    for kind in endpoint.content:
        content[kind] = {"schema": {"type": "string"}} if kind.startswith("text/") else {}
    if content:
        found["content"] = content
    if endpoint.status == 201:
        found["links"] = _LINKS
    return found


_LINKS = {
    name: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
    for name, operation in (
        ("show", "jobs_show"),
        ("cancel", "jobs_cancel"),
        ("retry", "jobs_retry"),
        ("delete", "jobs_delete"),
        ("explain", "jobs_explain"),
        ("events", "jobs_events"),
        ("logs", "logs_logs"),
        ("metrics", "results_metrics"),
        ("artifacts", "results_artifacts"),
        ("bundle", "results_bundle"),
        ("bundle files", "results_bundle_files"),
    )
}
"""What can be asked about a job that was made."""


def _body(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.message is not None:
        return {JSON: {"schema": _refer(endpoint.message)}}
    if endpoint.body == FORM:
        files = "application/zip, application/x-zip-compressed, application/octet-stream"
        return {
            FORM: {
                "schema": _form(),
                "encoding": {FILE: {"contentType": files}},
                "example": examples.FORM,
            },
            JSON: {"schema": _refer(Submission), "example": examples.SCHEMAS["Submission"]},
        }
    return {endpoint.body: {}} if endpoint.body else {}


def _form() -> dict[str, Any]:
    """The fields of the spec as a form brings them, with the file beside them."""
    _, schemas = msgspec.json.schema_components([JobFields], ref_template=_REFERENCE)
    told = fields_of(JobSpec)
    properties: dict[str, Any] = {
        FILE: {
            "type": "string",
            "format": "binary",
            "contentMediaType": "application/zip",
            "description": "The bundle, a ZIP.",
        }
    }
    for name, schema in schemas["JobFields"]["properties"].items():
        kind = _without_null(schema)
        if name in _PAIRS:
            pair = {"type": "string", "pattern": "="}
            kind = {"type": "array", "items": pair, "maxItems": kind["maxProperties"]}
        properties[name] = {**kind, "description": told[name]}
    properties[SPEC] = {
        "type": "string",
        "contentMediaType": JSON,
        "contentSchema": {"$ref": _REFERENCE.format(name="JobFields")},
        "description": "A JSON object of fields, beside or instead of the others.",
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [FILE],
        "additionalProperties": False,
    }


def _refer(message: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=message.__name__)}
