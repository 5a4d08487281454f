"""Reading what a job is handed in with: as a form with the ZIP, or as JSON about a known one."""

from __future__ import annotations

import re
from typing import BinaryIO, cast

from flask import request

from dtrain.protocol import routes
from dtrain.protocol.errors import Invalid
from dtrain.protocol.spec import check_json

from .endpoint import FORM, JSON
from .reading import read_body, read_json

FILE = "file"
"""The field of the form that holds the ZIP."""
SPEC = "spec"
"""The field of the form that may hold a JSON object of fields."""
BUNDLE = "bundle"
"""The field of the JSON that names a ZIP which the server has."""
_REPEATED = frozenset({"args", "tags", "env", "labels"})
"""The fields that a form may bring more than once."""
_NOT_SPEC = frozenset({"csrf_token", SPEC})
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_submission() -> tuple[dict[str, object], BinaryIO | str]:
    """The fields of the spec, and the ZIP or the SHA-256 of one that was handed in before.

    Raises:
        Invalid: it is neither a form nor JSON, or a field or the file is not as it should be.
    """
    if request.mimetype == FORM:
        return _form(), _upload()
    if request.mimetype == JSON:
        return _json()
    raise Invalid(
        "A job is handed in as a form with a file: -F name=… -F file=@bundle.zip with curl; or as"
        " JSON about a bundle that the server has.",
        code="not_a_form",
        status=415,
    )


def idempotency_key() -> str | None:
    """What the client calls its submission, so that a second one like it makes no second job."""
    return request.headers.get(routes.IDEMPOTENCY_HEADER)


def _json() -> tuple[dict[str, object], str]:
    fields = _object(read_body(), "The body", None)
    bundle = fields.pop(BUNDLE, None)
    if not isinstance(bundle, str) or not _SHA256.fullmatch(bundle):
        raise Invalid(
            "The field bundle must be the SHA-256 of a bundle that the server has: 64 hexadecimal"
            " digits; to hand in a ZIP, send a form with the field file.",
            field=BUNDLE,
        )
    check_json(fields)
    return fields, bundle


def _form() -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, values in request.form.lists():
        if name == FILE:
            raise Invalid(
                "The field file must be a file, not a text: -F file=@bundle.zip with curl.",
                field=FILE,
            )
        if len(values) > 1 and name not in _REPEATED:
            raise _twice(name)
        if name not in _NOT_SPEC:
            fields[name] = values if len(values) > 1 else values[0]
    if SPEC in request.form:
        for name, value in _spec(request.form[SPEC]).items():
            if fields.get(name, "") != "":
                raise _twice(name)
            fields[name] = value
    return fields


def _spec(text: str) -> dict[str, object]:
    if not text.strip():
        return {}
    try:
        found = read_json(text.encode(), "The field spec")
    except Invalid as error:
        raise Invalid(error.detail, code=error.code, field=error.field or SPEC) from None
    fields = _object(found, "The field spec", SPEC)
    check_json(fields)
    return fields


def _object(found: object, what: str, field: str | None) -> dict[str, object]:
    if not isinstance(found, dict):
        raise Invalid(f"{what} must be a JSON object with the fields of a job.", field=field)
    return found


def _twice(name: str) -> Invalid:
    return Invalid(f"The field {name[:100]!r} is given twice.", field=name[:100])


def _upload() -> BinaryIO:
    for name in request.files:
        if name != FILE:
            raise Invalid(
                f"There is no file {name[:100]!r} in a job; the bundle is {FILE}.",
                field=name[:100],
            )
    files = request.files.getlist(FILE)
    if len(files) > 1:
        raise Invalid("The field file is given twice; a job has one bundle.", field=FILE)
    if not files or not files[0].filename:
        raise Invalid("The bundle is missing: give a ZIP file in the field file.", field=FILE)
    return cast(BinaryIO, files[0].stream)
