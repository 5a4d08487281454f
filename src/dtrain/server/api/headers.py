"""The headers that matter, as the description of the API tells them."""

from __future__ import annotations

from typing import Any

from dtrain.protocol import routes
from dtrain.server.jobs.idempotency import KEY, LONGEST_KEY

LAST_EVENT_ID = "Last-Event-ID"

ASKS: dict[str, dict[str, Any]] = {
    routes.IDEMPOTENCY_HEADER: {
        "description": "Chosen by the client, such as a UUID: the same submission again with the"
        " same key gives the first one's job, another one 409.",
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": KEY},
        "example": "0f6c7a52-6c0f-4c1e-9a39-6d1f0a8c5f1e",
    },
    routes.SUBMITTER_HEADER: {
        "description": "Who says to send the request, percent-encoded; nobody proves it.",
        "schema": {"type": "string"},
        "example": "Ada%20Lovelace",
    },
    routes.SECRET_HEADER: {
        "description": "The secret of the attempt, which its worker minted.",
        "required": True,
        "schema": {
            "type": "string",
            "minLength": 32,
            "maxLength": 128,
            "pattern": "^[A-Za-z0-9_-]+$",
        },
        "example": "k3uE2bq0Wc0r1v7w1mFhYxQm9n0s2t4u",
    },
    "Range": {
        "description": "The bytes that are wanted, one range of them; several are answered whole.",
        "schema": {"type": "string"},
        "example": "bytes=0-1023",
    },
    "If-Range": {
        "description": "An ETag: the range is only wanted if the content still has it.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "ETags: content that has one of them is answered with 304.",
        "schema": {"type": "string"},
    },
    "Content-Encoding": {
        "description": "`deflate` for a body in zlib's format.",
        "schema": {"enum": ["deflate", "identity"]},
    },
    LAST_EVENT_ID: {
        "description": "The id of the last message that was received: the stream goes on behind"
        " it.",
        "schema": {"type": "string"},
    },
}
"""By name: what a request may carry."""

GIVES: dict[str, dict[str, Any]] = {
    "Location": {
        "description": "The address of the job.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/jobs/42",
    },
    "Link": {
        "description": 'The following page, as `<address>; rel="next"`; absent on the last.',
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The SHA-256 of the content.",
        "schema": {"type": "string"},
    },
    "Accept-Ranges": {
        "description": "`bytes`.",
        "schema": {"const": "bytes"},
    },
    "Content-Range": {
        "description": "Which bytes these are, and of how many.",
        "schema": {"type": "string"},
        "example": "bytes 0-1023/4096",
    },
    "Content-Disposition": {
        "description": "The name to save it under (RFC 6266).",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait, where they are known.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
"""By name: what an answer may carry."""

DOWNLOAD_ASKS = ("Range", "If-Range", "If-None-Match")
DOWNLOAD_GIVES = ("ETag", "Accept-Ranges", "Content-Disposition")
