"""What docs/python.md shows is run, against a server and a worker."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from support.checks import ROOT
from support.processes import start_server, start_worker, wait_for

from dtrain.client.client import Client

DOCUMENT = ROOT / "docs" / "python.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_examples_of_the_document_do_what_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = _BLOCK.findall(DOCUMENT.read_text())
    [script] = [text for kind, text in blocks if kind == "python"]
    examples = "\n".join(text for kind, text in blocks if kind == "pycon")
    (tmp_path / "my_training").mkdir()
    (tmp_path / "my_training" / "main.py").write_text(script)
    server = start_server(tmp_path / "server")
    start_worker(tmp_path / "worker", server)
    with Client(server.url) as client:
        wait_for(client.workers.list, "the worker")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DTRAIN_SERVER_URL", server.url)
    test = doctest.DocTestParser().get_doctest(examples, {}, DOCUMENT.name, str(DOCUMENT), 0)
    assert len(test.examples) > 30
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
