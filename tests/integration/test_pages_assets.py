"""The built styles and scripts: current, small, and showing values as the server does."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import dtrain_ui
import pytest
from support.checks import ROOT

from dtrain.protocol.progress import fraction_of, level_of
from dtrain.server.pages import formats

FRONTEND = ROOT / "frontend"
MOST_BYTES = 150_000
"""Of compressed styles and scripts."""

NUMBERS = [0, 1, -3, 5.0, 0.34, 0.123456, 0.00012345, 0.000012345, 1234.5678, 12345.6, 1234567.8]
NUMBERS += [999_999_999, 2**53, -0.5, 1e-300, 1e22, 0.99995, 99999.5, 1e-4, 9.9999e-5]
SIZES = [0, 1, 999, 1000, 1449, 123_456, 99_949, 10**7, 2**53]
SECONDS = [-1, 0, 4.9, 5, 59, 60, 61, 3599, 3600, 86_399, 86_400, 1e6]
LINES = [
    "plain",
    "INFO: hello",
    "2026-11-24 10:00:00,123 WARNING data: 3 samples have no label",
    "12:00:01 [ERROR] oh",
    "ERROR:root:failed",
    "root: CRITICAL gone",
    "ERRORS are not an error",
    "ValueError: no",
    "torch.cuda.OutOfMemoryError: CUDA out of memory",
    "Traceback (most recent call last):",
    "/x/y.py:3: UserWarning: old",
    'PROGRESS: {"loss": 1}',
    "  PROGRESS: {}",
    "\x1b[31mERROR\x1b[0m red",
    "é: ERROR accents",
    "root: CRITICAL: gone",
    "2026-11-24 10:00:00 - module - WARNING - dashes",
    "\x1b[32m2026-11-24 10:00:00.123\x1b[0m | \x1b[1mERROR   \x1b[0m | main:f:3 - loguru",
    "[rank0]: Traceback (most recent call last):",
    "[rank0]: RuntimeError: no",
    "MeanSquaredError: 0.25",
    "KeyboardInterrupt",
    "UserWarning: old",
    "a\x07b\x00c\tT\u202egpj",
    "10%\r50%\r100%",
    "100%\r",
    "x" * 10_001,
    "",
]
RECORDS: list[dict[str, Any]] = [
    {"epoch": 1, "epochs": 4},
    {"epoch": 3, "total_epochs": 2},
    {"step": 5, "max_steps": 10, "loss": 1.0},
    {"progress": 0.3},
    {"progress": 3, "step": 1, "steps": 2},
    {"progress": "NaN"},
    {"epoch": 1, "epochs": 0},
    {"epoch": True, "epochs": 2},
    {"loss": 1.0},
]

SCRIPT = """
import { age, duration, number, bytes } from "./web/numbers";
import { fold, levelOf, visible } from "./web/text";
import { fractionOf } from "./web/progress";
const cases = JSON.parse(process.argv[2]);
console.log(JSON.stringify({
  number: cases.numbers.map(number),
  size: cases.sizes.map(bytes),
  duration: cases.seconds.map(duration),
  age: cases.seconds.map(age),
  level: cases.lines.map(levelOf),
  visible: cases.lines.map((line) => visible(fold(line))),
  fraction: cases.records.map(fractionOf),
}));
"""


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FRONTEND)
    return importlib.import_module("build_assets")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The frontend as a fresh clone has it."""
    unused = shutil.ignore_patterns("node_modules", "static", "__pycache__", "*.egg-info")
    return shutil.copytree(FRONTEND, tmp_path / "frontend", ignore=unused)


def package_in(folder: Path) -> ModuleType:
    """The package `dtrain_ui` of a copy."""
    place = folder / "src" / "dtrain_ui" / "__init__.py"
    spec = importlib.util.spec_from_file_location("copied_dtrain_ui", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_scripts_show_values_as_the_server_does(build: ModuleType, tmp_path: Path) -> None:
    bundler = FRONTEND / "node_modules" / "esbuild" / "bin" / "esbuild"
    if not bundler.exists():
        build.install()
    source, script = tmp_path / "cases.ts", tmp_path / "cases.mjs"
    source.write_text(SCRIPT.replace("./web", str(FRONTEND / "web")))
    build.run(bundler, str(source), "--bundle", "--platform=node", f"--outfile={script}")
    cases = {
        "numbers": NUMBERS,
        "sizes": SIZES,
        "seconds": SECONDS,
        "lines": LINES,
        "records": RECORDS,
    }
    done = subprocess.run(
        [build.find_node().program, script, json.dumps(cases)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "number": [formats.number(value) for value in NUMBERS],
        "size": [formats.size(value) for value in SIZES],
        "duration": [formats.duration(value) for value in SECONDS],
        "age": [formats.age(formats.timedelta(seconds=value)) for value in SECONDS],
        "level": [level_of(line) for line in LINES],
        "visible": [formats.visible(line) for line in LINES],
        "fraction": [fraction_of(record) for record in RECORDS],
    }


def test_assets_are_current() -> None:
    assert not dtrain_ui.is_stale(), "build them with: python frontend/build_assets.py"


def test_assets_are_small() -> None:
    names = ("main.js", "stream-worker.js", "main.css")
    files = [dtrain_ui.static_folder() / name for name in names]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < MOST_BYTES


def test_assets_name_what_is_built_in() -> None:
    licences = (dtrain_ui.static_folder() / "licences.txt").read_text()
    for name in ("htmx.org", "uplot", "inter"):
        assert name in licences


def test_assets_that_are_missing_are_stale(copy: Path) -> None:
    assert package_in(copy).is_stale()


def test_assets_are_stale_when_a_source_changes(copy: Path) -> None:
    package = package_in(copy)
    package.static_folder().mkdir()
    package.write_digest(package.static_folder())
    assert not package.is_stale()
    (copy / "web" / "new.ts").write_text("export {};")
    assert package.is_stale()


def test_assets_without_sources_are_never_stale(copy: Path) -> None:
    package = package_in(copy)
    package.static_folder().mkdir()
    package.write_digest(package.static_folder())
    shutil.rmtree(copy / "web")
    assert not package.is_stale()


def test_lock_file_names_no_registry() -> None:
    lock = json.loads((FRONTEND / "package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert all("resolved" not in package and "integrity" in package for package in packages)


def test_wheel_holds_the_assets(copy: Path, tmp_path: Path) -> None:
    """Built with no Node on the path, as on a machine that has none."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).glob("*"):
            link = programs / program.name
            if program.name not in {"node", "nodejs", "npm", "npx"} and not link.is_symlink():
                link.symlink_to(program)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, copy],
        env=os.environ | {"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("dtrain_ui-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    built = {f"dtrain_ui/static/{path.name}" for path in dtrain_ui.static_folder().iterdir()}
    assert built <= names
    assert not [name for name in names if "node_modules" in name or name.endswith(".ts")]
