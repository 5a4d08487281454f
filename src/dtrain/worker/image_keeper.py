"""The images that a worker has built, and their limits: what was used least recently goes first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from .engine import Engine, EngineRefused
from .images import BUILT, REPOSITORY


class _Built(msgspec.Struct, frozen=True):
    """An image that was built."""

    used_at: float
    size: int
    """Bytes that no other image shares."""
    tag: str


class ImageKeeper:
    """Removes images that were built, never those of others.

    Args:
        engine: that has them.
        labels: of the worker's images.
        worker: the worker's folder, where their uses are noted.
        limit: bytes that may be kept; None for any number.
        age: seconds since the last use after which they go; None keeps them.
    """

    def __init__(
        self,
        engine: Engine,
        labels: Mapping[str, str],
        worker: Path,
        limit: float | None,
        age: float | None,
    ) -> None:
        self._engine = engine
        self._labels = labels
        self._uses = worker / BUILT
        self._limit = limit
        self._age = age

    def look(self) -> None:
        """Remove what is too old, and what is too much. What a container uses stays."""
        if self._limit is None and self._age is None:
            return
        images = sorted(self._built(), key=lambda one: one.used_at)
        total = sum(one.size for one in images)
        now = time.time()
        for one in images:
            is_old = self._age is not None and now - one.used_at > self._age
            is_much = self._limit is not None and total > self._limit
            if (is_old or is_much) and self._remove(one):
                total -= one.size
        self._forget({one.tag for one in images})

    def _built(self) -> Iterator[_Built]:
        labels = [f"{name}={value}" for name, value in self._labels.items()]
        query = {"filters": json.dumps({"label": labels}), "shared-size": 1}
        images = self._engine.call("GET", "/images/json", query=query)
        shared = self._shared(images)
        for image in images:
            for name in image.get("RepoTags") or []:
                repository, _, tag = name.rpartition(":")
                if repository.rpartition("/")[2] == REPOSITORY:
                    own = int(image["Size"]) - shared.get(image["Id"], 0)
                    yield _Built(self._used_at(tag, image), own, tag)

    def _shared(self, images: list[dict[str, Any]]) -> dict[str, int]:
        """Bytes of each image that others have as well; older engines tell them with all else."""
        if any((image.get("SharedSize") or 0) < 0 for image in images):
            images = self._engine.call("GET", "/system/df").get("Images") or []
        return {image["Id"]: max(image.get("SharedSize") or 0, 0) for image in images}

    def _used_at(self, tag: str, image: Mapping[str, Any]) -> float:
        with suppress(FileNotFoundError):
            return (self._uses / tag).stat().st_mtime
        return float(image["Created"])

    def _remove(self, image: _Built) -> bool:
        try:
            self._engine.call("DELETE", f"/images/{REPOSITORY}:{image.tag}")
        except EngineRefused:
            return False
        (self._uses / image.tag).unlink(missing_ok=True)
        return True

    def _forget(self, known: set[str]) -> None:
        """Remove the notes of images that are gone, unless one is being built."""
        if self._uses.is_dir():
            for note in self._uses.iterdir():
                if note.name not in known and time.time() - note.stat().st_mtime > (self._age or 0):
                    note.unlink(missing_ok=True)
