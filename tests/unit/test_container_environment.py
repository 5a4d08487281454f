from __future__ import annotations

import pytest

from dtrain.worker.container_environment import common


@pytest.mark.parametrize(
    "line",
    [
        *("numpy", "a", "scikit-learn", "zope.interface", "ruamel.yaml>=0.17", "Pillow == 10.*"),
        *("numpy==1.26.4", "torch==2.1.0+cu121", "a>=1,<2,!=1.5", "a ~= 1.4.2", "a===1!2.0"),
        *("uvicorn[standard]", "a[x, y-z]>=1", "requests [security]", "gzip-reader", "a.zipper"),
        *('a; python_version < "3.9"', "a==1 ; sys_platform == 'linux' and os_name != 'nt'"),
        *("a==1 --hash=sha256:00 --hash=sha256:11", "a==1 \\\n    --hash=sha256:00"),
        *("--index-url https://host/simple", "-i http://host/simple", "--pre", "--no-index"),
        *("--extra-index-url=https://me:word@host/simple", "--only-binary :all:"),
        *("a  # why ./not", "# -*- coding: utf-8 -*-\na", "a\n# ./no\n\n   # -e .\nb==1"),
    ],
)
def test_requirements_that_mean_the_same_for_every_job(line: str) -> None:
    assert common(line) is not None


@pytest.mark.parametrize(
    "line",
    [
        *(".", "..", "...", ".[dev]", ". [dev]", "..[x]", "./a", "a/", "a/b", "-a", "a-", "a."),
        *("pkg-1.0.tar.gz", "foo.whl", "FOO.ZIP", "foo.whl[x]", "a.tgz ; os_name == 'x'", "a.tar"),
        *("a==1.zip", "a>=1,<2.whl", "a[x]==1.zip", "a==1.zip[x]", "a.tar.xz", "a.tlz", "a.zip\t"),
        *("-i ./simple", "-i simple", "--index-url file:///dtrain/work/x", "--index-url=x"),
        *("--extra-index-url ../x", "--find-links .", "-f .", "-r other.txt", "-c other.txt"),
        *("-e .", "--editable .", "a @ file:///dtrain/work/a", "a @ git+https://host/a", "a@b"),
        *("file:///a", "https://host/a-1.whl", "a; x -e .", "a -e .", "${HOME}", "a b", "a\\b"),
        *("# \\\n.", "a \\\n# c\n.", "a==1.0\\\n# c\n.", "pkg-1.0.tar.\\\ngz", "a\n.\\"),
        *("# coding: utf-7\na==1+AC8-x", "# vim: set fileencoding=utf-7 :\na"),
        *("a" * 20_000, f"a{'!=1' * 3000}/", f"a{' ' * 9000}/", f"a{'==1,' * 2000}/"),
    ],
)
def test_requirements_that_name_a_place_on_a_disk(line: str) -> None:
    assert common(line) is None
    assert common(f"numpy==1.26.4\n{line}\n") is None


def test_same_requirements_are_told_as_such_without_their_comments() -> None:
    assert common("a==1  # one\n\n# all\n b\\\n>=2\n") == "a==1\nb>=2"
