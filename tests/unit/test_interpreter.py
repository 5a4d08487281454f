from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dtrain.protocol.errors import Invalid
from dtrain.worker.interpreter import identity, known, learn, version


def test_interpreter_says_who_it_is() -> None:
    python = Path(sys.executable)
    assert identity(python) == f"{os.path.realpath(python)} {sys.version}\n"
    assert version(python) == sys.version.split()[0]


def test_what_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="does not run as Python does"):
        identity(Path("/bin/true"))


def test_what_another_process_knows_holds_until_the_interpreter_changes(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho /else/python 3.9.2\n")
    python.chmod(0o755)
    learn([(str(python), python.stat().st_mtime_ns, "/some/python 3.9.1\n")])
    assert version(python) == "3.9.1"
    os.utime(python, (1, 1))
    assert version(python) == "3.9.2"
    assert known([python]) == [(str(python), 10**9, "/else/python 3.9.2\n")]
