"""The checks of the code itself: lint, format, types."""

from __future__ import annotations

from support.checks import run_checker


def test_lint_finds_nothing() -> None:
    run_checker("ruff", "check", ".")


def test_format_is_the_formatters() -> None:
    run_checker("ruff", "format", "--check", ".")


def test_types_hold() -> None:
    run_checker("mypy")
