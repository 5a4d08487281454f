"""Files of a bundle that mean something by their name."""

from __future__ import annotations

DEFAULT_ENTRY = "main.py"
DEFAULT_REQUIREMENTS = "requirements.txt"

PROJECT = "pyproject.toml"
LOCK = "uv.lock"
DOCKERFILE = "Dockerfile"
JOB_FILE = "dtrain.yaml"
"""What the bundle says about its own job, at its top."""
MAX_JOB_FILE = 64 * 1024
"""Bytes of that."""
