"""Errors as answers: what went wrong inside HTTP as one of ours, and ours as problem documents."""

from __future__ import annotations

import math
from http import HTTPStatus

from flask import Response, request
from werkzeug.exceptions import (
    ClientDisconnected,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from dtrain.protocol import errors
from dtrain.protocol.errors import DTrainError
from dtrain.protocol.messages import encode
from dtrain.protocol.problem import Problem
from dtrain.server.auth import services
from dtrain.server.blobs import too_large


def problem(error: DTrainError) -> Response:
    """The document for an error (RFC 9457)."""
    document = Problem(
        status=error.status,
        code=error.code,
        title=title(error.status),
        detail=error.detail,
        field=error.field,
        offset=error.offset,
    )
    response = Response(encode(document), error.status, mimetype="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    return response


def title(status: int) -> str:
    """A status in words."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def headers(error: DTrainError) -> dict[str, str]:
    """The headers that go with an error, whatever its form."""
    found = {}
    if isinstance(error, errors.Unauthorized):
        found["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        found["Retry-After"] = str(math.ceil(error.retry_after))
    if error.code == "range":
        found["Content-Range"] = f"bytes */{error.offset}"
    return found


def from_http(error: HTTPException) -> DTrainError:
    """What the HTTP library complains about, as one of our errors."""
    if isinstance(error, NotFound):
        return errors.NotFound("There is nothing at this address.")
    if isinstance(error, MethodNotAllowed):
        possible = ", ".join(sorted(error.valid_methods or []))
        return errors.Refused(
            f"This address does not take this method; it takes {possible}.",
            code="method_not_allowed",
            status=405,
        )
    if isinstance(error, RequestEntityTooLarge):
        return _too_large(request.max_content_length or 0)
    if isinstance(error, ClientDisconnected):
        return errors.Invalid(
            "The request ended before its body was complete; send it again.",
            code="incomplete",
            status=400,
        )
    return errors.Refused(
        f"{(error.description or title(error.code or 400)).rstrip('.')}.", status=error.code or 400
    )


def _too_large(limit: int) -> DTrainError:
    """The refusal of a body, told from that of a form whose fields alone are too much."""
    if request.mimetype != "multipart/form-data":
        return too_large(limit)
    if request.content_length is not None and request.content_length <= limit:
        return errors.Invalid(
            "The form has too many fields, or too long ones; what a job needs goes into its ZIP.",
            code="too_large",
            status=413,
        )
    return too_large(services().settings.max_upload_bytes)
