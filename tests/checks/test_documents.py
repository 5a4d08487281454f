"""The documents say what the code does: every setting, field and word, and no dead link."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.checks import ROOT

from dtrain.protocol.spec import FIELDS
from dtrain.protocol.states import Phase, Reason, Status
from dtrain.server.settings import SETTINGS
from dtrain.worker.config import VARIABLES

DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]
    if path.is_file()
]


def _first_column(path: Path) -> set[str]:
    """The names in code type that stand in the first columns of a document's tables."""
    rows = [line for line in path.read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_setting_of_the_server_is_described() -> None:
    names = {setting.name for setting in SETTINGS}
    assert names - _first_column(ROOT / "docs" / "settings.md") == set()


def test_every_setting_of_the_worker_is_described_with_its_variable() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    missing = [name for name, key in VARIABLES.items() if f"| `{name}` | `{key}` |" not in text]
    assert missing == []


def test_settings_that_are_described_exist() -> None:
    known = {setting.name for setting in SETTINGS} | set(VARIABLES) | {"--server", "--token"}
    assert _first_column(ROOT / "docs" / "settings.md") - known == set()


def test_defaults_of_the_server_are_those_described() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    wrong = [
        setting.name
        for setting in SETTINGS
        if isinstance(setting.default, int | str) and not isinstance(setting.default, bool)
        if f"| `{setting.name}` | `{setting.default}` |" not in text
    ]
    assert wrong == []


def test_every_field_of_a_job_is_described() -> None:
    assert set(FIELDS) - _first_column(ROOT / "docs" / "job-contract.md") == set()


def test_every_word_for_where_a_job_is_and_how_it_ended_is_described() -> None:
    text = (ROOT / "docs" / "job-contract.md").read_text()
    words = [*Status, *Phase, *Reason]
    assert [word for word in words if f"`{word}`" not in text] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not _exists(path, link)] == []


def _exists(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = document.parent / name if name else document
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
    return not anchor or anchor in {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }
