"""What the API says about itself: to programs, and to people."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from flask import Flask, Response, current_app, render_template, request

from dtrain.protocol import routes
from dtrain.server.settings import Settings

from .docs import Docs
from .endpoint import JSON, Endpoints
from .health import api
from .openapi import document

_DOCUMENT = "dtrain.openapi"
_DOCS = "dtrain.docs"
_HTML = "text/html"


@api("GET", routes.OPENAPI, summary="Describe the API to programs", content=(JSON,))
def openapi() -> Response:
    """This description, as OpenAPI 3.1."""
    return Response(current_app.extensions[_DOCUMENT], mimetype=JSON)


@api("GET", routes.DOCS, summary="Describe the API to people", answer=_HTML)
def docs() -> str:
    """This description, as a page."""
    address = request.host_url.rstrip("/")
    page: Docs = current_app.extensions[_DOCS]
    return render_template("api_docs.html", docs=page, address=address)


def install(app: Flask, groups: Sequence[Endpoints], settings: Settings) -> None:
    """Give the application the description, in both forms."""
    described = document(groups, is_open=settings.open)
    app.extensions[_DOCUMENT] = msgspec.json.encode(described)
    app.extensions[_DOCS] = Docs.of(described)
