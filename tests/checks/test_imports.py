"""Who may import whom, and which file may name which library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache

import pytest
from support.checks import ROOT, run_checker

SOURCE = ROOT / "src" / "dtrain"

PLACES = {
    "alembic": ["server/store/*"],
    "click": ["cli/*"],
    "flask": ["server/app.py", "server/api/*", "server/pages/*", "server/auth.py"],
    "granian": ["server/serve.py"],
    "prometheus_client": ["server/api/*"],
    "psutil": ["worker/*"],
    "psycopg": ["server/store/*"],
    "rich": ["cli/*", "worker/card.py"],
    "subprocess": [
        *("worker/cache.py", "worker/environment.py", "worker/images.py"),
        *("worker/interpreter.py", "worker/python_search.py", "worker/registries.py"),
        "worker/uv_calls.py",
        "cli/demo.py",
    ],
    "urllib3": ["client/transport.py"],
    "yaml": ["protocol/jobfile.py"],
    "werkzeug": ["server/app.py", "server/api/*", "server/pages/*", "server/auth.py"],
}
"""Where each library may be named; SQLAlchemy has a test of its own."""


def test_import_table_holds() -> None:
    run_checker("lint-imports", "--no-cache", "--no-logo")


@pytest.mark.parametrize("library", PLACES)
def test_library_is_named_only_in_its_place(library: str) -> None:
    found = {path for path, tree in _modules() if library in _libraries(tree)}
    allowed = {path for path in found if any(fnmatch(path, place) for place in PLACES[library])}
    assert found - allowed == set()


def test_sql_is_written_only_in_the_store() -> None:
    found = [
        f"{path}: sqlalchemy.{name}"
        for path, tree in _modules()
        if not path.startswith("server/store/")
        for name in _names_of_sqlalchemy(tree)
        if name != "Connection"  # what use cases hand on to the store
    ]
    assert found == []


@cache
def _modules() -> list[tuple[str, ast.Module]]:
    """Every module by its path in the package."""
    return [
        (path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text()))
        for path in SOURCE.rglob("*.py")
    ]


def _libraries(tree: ast.Module) -> set[str]:
    """The top names of what a module imports, inside functions as well."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def _names_of_sqlalchemy(tree: ast.Module) -> Iterator[str]:
    aliases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {a.asname or a.name for a in node.names if a.name == "sqlalchemy"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
            yield from (alias.name for alias in node.names)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in aliases:
                yield attribute
