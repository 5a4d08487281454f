"""Bytes that people take away: whole or in ranges, and harmless to look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from flask import Response, request
from werkzeug.datastructures import ContentRange

from dtrain.protocol.errors import Conflict

from .endpoint import BYTES

_PIECE = 256 * 1024
_LONGEST_NAME = 200
IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
"""Of what jobs leave, all that a page may show; the rest is only ever saved."""


def download(file: Path, name: str, sha256: str, media_type: str = "") -> Response:
    """A file, to be saved under a name."""
    suffix = PurePosixPath(name).suffix.lower()
    kind = media_type or IMAGES.get(suffix, BYTES)
    response = ranged(partial(_read, file), file.stat().st_size, kind, sha256)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Disposition"] = disposition(PurePosixPath(name).name)
    return response


def disposition(name: str) -> str:
    """The header that has a file saved under a name, for old clients and new (RFC 6266)."""
    plain = "".join(c if c.isprintable() else "_" for c in name)[:_LONGEST_NAME] or "file"
    ascii_only = re.sub(r'[^ -~]|["\\%]', "_", plain)
    found = f'attachment; filename="{ascii_only}"'
    if ascii_only == plain:
        return found
    return f"{found}; filename*=UTF-8''{quote(plain, safe='', errors='replace')}"


def ranged(
    read: Callable[[int, int], Iterator[bytes]], size: int, media_type: str, etag: str | None = None
) -> Response:
    """Bytes, or the range of them that is asked for; scripts and forms are off in a browser.

    Args:
        read: gives the bytes from a first one up to, not including, a last one.
        size: how many there are.
        media_type: what they are.
        etag: changes when they do.

    Raises:
        Conflict: the range begins behind the end.
    """
    is_known = etag is not None and request.if_none_match.contains_weak(etag)
    part = None if is_known else _range(size, etag)
    start, end = part or (0, size)
    if is_known:
        response = Response(status=304)
    else:
        response = Response(read(start, end), 206 if part else 200, mimetype=media_type)
        response.content_length = end - start
    if part:
        response.content_range = ContentRange("bytes", start, end, size)
    if etag is not None:
        response.set_etag(etag)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _range(size: int, etag: str | None) -> tuple[int, int] | None:
    """The first byte asked for and the one behind the last; None for all of them.

    A header that cannot be followed, or no longer holds, is passed over, as HTTP wants it.
    """
    asked, condition = request.range, request.if_range
    if request.method != "GET" or asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    is_weak = request.headers.get("If-Range", "").startswith("W/")  # and so matches nothing
    has_changed = condition.etag is not None and (is_weak or condition.etag != etag)
    if condition.date is not None or has_changed:
        return None
    found = asked.range_for_length(size)
    if found is None:
        raise Conflict(
            f"There are {size} bytes; the header Range asks for later ones.",
            code="range",
            status=416,
            offset=size,
        )
    return found


def _read(file: Path, start: int, end: int) -> Iterator[bytes]:
    with file.open("rb") as content:
        content.seek(start)
        while start < end and (piece := content.read(min(_PIECE, end - start))):
            yield piece
            start += len(piece)
