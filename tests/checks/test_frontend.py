"""The frontend's types hold, as TypeScript sees them."""

from __future__ import annotations

import importlib

import pytest
from support.checks import ROOT

FRONTEND = ROOT / "frontend"


def test_types_of_the_frontend_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FRONTEND)
    build = importlib.import_module("build_assets")
    checker = FRONTEND / "node_modules" / ".bin" / "tsc"
    installed = FRONTEND / "node_modules" / ".package-lock.json"
    wanted = FRONTEND / "package-lock.json"
    try:
        if not checker.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            build.install(with_checks=True)
        build.run(checker, "--noEmit")
    except build.BuildError as error:
        pytest.fail(str(error), pytrace=False)
