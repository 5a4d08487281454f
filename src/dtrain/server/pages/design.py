"""`/design`: the values and components that every page is made of, for whoever changes one."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template

from dtrain.protocol.states import Status
from dtrain.server.auth import services

blueprint = Blueprint("design_pages", __name__)

# As in `tokens.css`; a test holds them together.
_COLOURS = {
    "Surfaces": ("ground", "surface", "sunken", "line", "line-strong", "line-field"),
    "Ink": ("ink", "ink-2", "ink-3"),
    "Meaning": (
        *("accent", "accent-soft", "good", "good-soft"),
        *("bad", "bad-soft", "warn", "warn-soft"),
    ),
    "Buttons": ("button", "on-button"),
    "Series of a chart": tuple(f"series-{number}" for number in range(1, 11)),
    "What a search found": ("mark", "mark-current", "on-mark-current"),
    "A terminal's": tuple(f"ansi-{number}" for number in range(8)),
}
_ICONS = (*map(str, Status), "search", "upload", "download", "file", "folder", "warning", "close")


@blueprint.get("/design")
def show() -> str:
    """The page."""
    jobs: list[dict[str, Any]] = [
        {"status": str(status), "phase": None, "fraction": 0.2 + 0.15 * number}
        for number, status in enumerate(Status)
    ]
    return render_template(
        "design.html", colours=_COLOURS, icons=_ICONS, jobs=jobs, now=services().clock.now()
    )
