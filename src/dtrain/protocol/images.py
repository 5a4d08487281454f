"""Names of container images."""

from __future__ import annotations

import re
from typing import NamedTuple

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9+._-]+:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
HUB = "docker.io"
"""The host of images whose names say none."""


class ImageName(NamedTuple):
    """A name in its parts."""

    name: str
    """The repository, with the registry's host if one is named."""
    version: str
    """Its tag or its digest; `latest` if it says neither."""
    registry: str
    """The host of the registry that has it."""


def image_name(text: str) -> ImageName | None:
    """The parts of an image's name such as `ghcr.io/lab/torch:2.4`; None if it is none."""
    found = _NAME.fullmatch(text)
    if found is None or len(found["name"]) > 255:
        return None
    first, slash, _ = found["name"].partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    if not is_host and first != first.lower():
        return None
    version = found["digest"] or found["tag"] or "latest"
    return ImageName(found["name"], version, first if is_host else HUB)
