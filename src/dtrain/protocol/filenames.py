"""Files of a bundle that mean something by their name."""

from __future__ import annotations

DEFAULT_ENTRY = "main.py"
DEFAULT_REQUIREMENTS = "requirements.txt"

PROJECT = "pyproject.toml"
LOCK = "uv.lock"
DOCKERFILE = "Dockerfile"
