"""The documents say what the code does: every setting, field and word, and no dead link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checks import ROOT

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.spec import FIELDS
from dtrain.protocol.states import Phase, Reason, Status
from dtrain.server.api import GROUPS
from dtrain.server.api.jobs import JobsQuery
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


def test_every_address_of_the_api_is_described_and_no_other() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    described = set(re.findall(r"^\| `(/[^`]+)` \| ([A-Z]+) \|", text, re.MULTILINE))
    served = {(one.template, one.method) for group in GROUPS for one in group.endpoints}
    assert described == served


def test_every_filter_of_the_list_of_jobs_is_described() -> None:
    names = set(JobsQuery.__struct_fields__)
    assert names - _first_column(ROOT / "docs" / "api.md") == set()


def test_every_code_of_an_error_is_described() -> None:
    """Those that the server and the protocol name, but for those that are no answers."""
    source = ROOT / "src" / "dtrain"
    files = [*source.glob("protocol/*.py"), *source.glob("server/**/*.py")]
    kinds = [kind for kind in _kinds(DTrainError) if ".worker." not in kind.__module__]
    codes = {kind.code for kind in (DTrainError, *kinds)}
    for path in files:
        codes |= set(re.findall(r'\bcode(?:: str)? ?= ?"(\w+)"', path.read_text()))
        codes |= set(
            re.findall(r'"(bundle_(?:empty|invalid|unsafe|not_zip|too_large))"', path.read_text())
        )
    elsewhere = {
        "database_encoding",
        "database_newer",
        "job_failed",
        "second_server",
        "unreachable",
        "unreadable",
    }
    assert codes - elsewhere - _first_column(ROOT / "docs" / "api.md") == set()


def _kinds(base: type[DTrainError]) -> Iterator[type[DTrainError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def test_tests_that_prove_what_can_be_relied_on_exist() -> None:
    named = re.findall(r"`(\w+/test_\w+\.py)(?:::(\w+))?`", _text("docs/reliability.md"))
    assert len(named) > 30
    missing = [
        f"{path}::{test}"
        for path, test in named
        if f"def {test}" not in (_text(f"tests/{path}") if _is_file(f"tests/{path}") else "")
    ]
    assert missing == []


def _is_file(path: str) -> bool:
    return (ROOT / path).is_file()


def _text(path: str) -> str:
    return (ROOT / path).read_text()


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
