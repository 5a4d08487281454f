"""A test run that is given a time starts no test after it, and says which it left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from support.checks import ROOT


def test_no_test_is_started_once_the_time_is_over(tmp_path: Path) -> None:
    tests = tmp_path / "test_example.py"
    tests.write_text("def test_one(): raise OSError\n\n\ndef test_two(): pass\n")
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT / "tests")}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist.plugin", tests],
        env={**os.environ, **environment, "TEST_UNTIL": str(time.time() - 1)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "2 tests were not started, since the time of TEST_UNTIL was over" in result.stdout
    assert re.search(r"^ +2 in test_example\.py$", result.stdout, re.MULTILINE)
