"""The web pages: HTML over the same use cases as the API, through one typed context each.

A page is whole without JavaScript; with it, fragments of the same templates keep it current.
"""

from __future__ import annotations

import dtrain_ui
from flask import Flask, url_for

from dtrain.protocol import routes
from dtrain.server.auth import csrf_token

from . import (
    cloning,
    compare,
    dashboard,
    design,
    files,
    formats,
    jobs,
    previews,
    waiting,
    workers,
)


def register(app: Flask) -> None:
    """Add the pages, and what their templates call, to an application."""
    app.register_blueprint(dashboard.blueprint)
    app.register_blueprint(jobs.blueprint)
    app.register_blueprint(files.blueprint)
    app.register_blueprint(cloning.blueprint)
    app.register_blueprint(workers.blueprint)
    app.register_blueprint(compare.blueprint)
    app.register_blueprint(design.blueprint)
    app.jinja_env.filters.update(
        formats.FILTERS, is_picture=previews.is_picture, shortfall=waiting.shortfall
    )
    app.jinja_env.globals.update(api=_api, asset=_asset, csrf_token=csrf_token)
    app.jinja_env.finalize = formats.without_overrides
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True


def compile_templates(app: Flask) -> None:
    """Have the templates ready before the first visit, of which it would be two thirds."""
    for name in app.jinja_env.list_templates(["html"]):
        app.jinja_env.get_template(name)


def _api(name: str, **parts: object) -> str:
    """The address of a part of the API: `api('JOB_LOGS', job_id=42)`."""
    template: str = getattr(routes, name)
    return routes.path(template, **parts)


def _asset(name: str) -> str:
    """The address of a built file, another one for each build."""
    return url_for("static", filename=name, v=dtrain_ui.digest())
