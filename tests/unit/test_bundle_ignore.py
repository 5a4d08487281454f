"""Ignore files mean what they mean to git."""

from __future__ import annotations

import io
import os
import random
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.requirements import require

from dtrain.protocol.bundle import pack
from dtrain.protocol.ignore import Patterns

NAMES = ["a", "b", "ab", "a b", "a-b", "b!", "#a", "a ", "0", "[a]", "a*", "é"]


@pytest.mark.parametrize(
    ("line", "path", "ignored"),
    [
        ("*.log", "deep/down/x.log", True),
        ("*.log", "x.logs", None),
        ("/x", "x", True),
        ("/x", "a/x", None),
        ("a/x", "b/a/x", None),
        ("**/x", "b/a/x", True),
        ("a/**/x", "a/x", True),
        ("a/**/x", "a/b/c/x", True),
        ("a/**", "a/x", True),
        ("a/**", "a", None),
        ("x/", "x", None),
        ("!x", "x", False),
        (r"\!x", "!x", True),
        (r"\#x", "#x", True),
        ("#x", "#x", None),
        ("x ", "x", True),
        ("x\\ ", "x ", True),
        ("?", "é", None),  # two bytes
        ("??", "é", True),
        ("[!a]", "b", True),
        ("[!a]", "a", None),
        ("[a-c]x", "bx", True),
        ("[]]", "]", True),
        ("[", "[", None),
        ("a\\", "a\\", None),
        ("[[:digit:]]", "7", True),
        ("[z-a]", "b", None),
        ("", "x", None),
        ("/", "x", None),
        ("a.c", "abc", None),
        ("x\r", "x", True),
    ],
)
def test_a_line_means_what_git_says(line: str, path: str, ignored: bool | None) -> None:
    assert Patterns([line]).verdict(path, folder=False) is ignored


def test_the_last_line_that_matches_decides() -> None:
    patterns = Patterns(["*.py", "!main.py", "main.py", "!main.*"])
    assert patterns.verdict("main.py", folder=False) is False
    assert patterns.verdict("other.py", folder=False) is True


def test_a_line_for_folders_is_for_folders_only() -> None:
    assert Patterns(["x/"]).verdict("a/x", folder=True) is True
    assert Patterns(["x/"]).verdict("a/x", folder=False) is None


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with files whose names are full of what patterns are made of."""
    folder = tmp_path_factory.mktemp("ignore") / "job"
    _git(folder.parent, "init", "--quiet", str(folder))
    chosen = random.Random(3)
    for first in NAMES:
        (folder / f"{first}f").touch()
        (folder / first).mkdir()
        for second in chosen.sample(NAMES, 6):
            path = folder / first / second
            if chosen.random() < 0.5:
                path.touch()
                continue
            path.mkdir()
            for third in chosen.sample(NAMES, 3):
                (path / third).touch()
    return folder


def _git(folder: Path, *words: str) -> str:
    nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        [require("git"), *words],
        cwd=folder,
        env={**os.environ, **nothing},
        check=True,
        capture_output=True,
    )
    return done.stdout.decode()


ATOMS = "a b f 0 A é - ! ^ # * ? [ ] \\ [ab] [!a] [a-c] [^-a] []a] [[:alpha:]] [\\]a] [b- :]"
# Git joins a literal beginning to a `**` behind it, against its own manual: not asked here.
PART = st.one_of(
    st.just("**"),
    st.lists(st.sampled_from([*ATOMS.split(), " "]), min_size=1, max_size=3).map("".join),
).filter(lambda part: part == "**" or "**" not in part)
LINE = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    st.sampled_from(["", "", "/", "!"]),
    st.lists(PART, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINE, min_size=1, max_size=4))
def test_a_folder_is_packed_as_git_would_add_it(repository: Path, lines: list[str]) -> None:
    (repository / ".gitignore").write_text("\n".join([*lines, "!.gitignore"]))
    listed = _git(repository, "ls-files", "-z", "--others", "--exclude-standard")
    file = io.BytesIO()
    pack(repository, file)
    packed = [name for name in zipfile.ZipFile(file).namelist() if not name.endswith("/")]
    assert sorted(packed) == sorted(filter(None, listed.split("\0")))
