"""What a job's page and the pages below it say as HTML, over a real store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from support.application import Agent, Application, application, bundle, upload

from dtrain.protocol import routes


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


@pytest.fixture
def agent(site: Application) -> Agent:
    return Agent(site.client)


def page(site: Application, path: str, status: int = 200) -> str:
    answer = site.client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "text/html"
    return unescape(answer.text)


def leave(agent: Agent, path: str, content: bytes) -> dict[str, object]:
    """Leave an artifact; what the end says of it."""
    digest = hashlib.sha256(content).hexdigest()
    place = f"{routes.ATTEMPT_ARTIFACT}?sha256={digest}"
    put = agent.report("PUT", place, parts={"path": path}, data=content)
    assert put.status_code == 204, put.text
    return {"path": path, "size": len(content), "sha256": digest}


def finish(agent: Agent, **fields: object) -> None:
    answer = agent.report("POST", routes.ATTEMPT_FINISH, json={"cause": "exited", **fields})
    assert answer.status_code == 200, answer.text


def test_attempts_say_how_each_ended(site: Application, agent: Agent) -> None:
    job_id = site.submit("x", memory_gb="0.5")["id"]
    agent.claim()
    finish(agent, signal=9, peak_memory=256 * 1024**2)
    html = page(site, f"/jobs/{job_id}")
    assert "The job was ended by the signal SIGKILL." in html
    assert 'aria-valuetext="0.25 GB of 0.5 GB"' in html
    assert f'href="/jobs/{job_id}/log?attempt=1"' in html


def test_history_is_paged_when_it_is_long(site: Application, agent: Agent) -> None:
    job_id = site.submit("x")["id"]
    agent.claim()
    for number in range(130):
        phase = ("executing", "cancelling")[number % 2]
        agent.report("POST", routes.ATTEMPT_PHASE, json={"phase": phase})
    html = page(site, f"/jobs/{job_id}")
    assert html.count("data-event=") == 20
    first = page(site, f"/jobs/{job_id}/history")
    assert first.count("data-event=") == 100
    assert "Handed in" not in first
    link = first.rpartition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    second = page(site, link)
    assert "Handed in" in second
    assert 'rel="next"' not in second
    page(site, f"/jobs/{job_id}/history?before=x", 422)
    page(site, "/jobs/99/history", 404)


def test_artifacts_are_shown_by_folder_and_attempt(site: Application, agent: Agent) -> None:
    job_id = site.submit("x")["id"]
    assert "It has left nothing yet." in page(site, f"/jobs/{job_id}/artifacts")
    agent.claim()
    finish(agent, artifacts=[leave(agent, "a b/c#.txt", b"one & <two>"), leave(agent, "d", b"")])
    top = page(site, f"/jobs/{job_id}/artifacts")
    assert f'href="/jobs/{job_id}/artifacts?path=a+b"' in top
    assert "path=a+b/c%23.txt" in page(site, f"/jobs/{job_id}/artifacts?path=a+b/")
    file = page(site, f"/jobs/{job_id}/artifacts?path=a+b/c%23.txt&attempt=1")
    assert "one & <two></pre>" in file
    assert f'href="/api/jobs/{job_id}/artifacts/a%20b/c%23.txt?attempt=1"' in file
    page(site, f"/jobs/{job_id}/artifacts?path=none", 404)
    page(site, f"/jobs/{job_id}/artifacts?attempt=2", 404)
    page(site, f"/jobs/{job_id}/artifacts?attempt=x", 422)
    page(site, "/jobs/99/artifacts", 404)


def test_bundle_is_shown_and_read_file_by_file(site: Application) -> None:
    files = {"main.py": "print('hello')\n", "data/big.txt": "0123456789" * 50_000}
    job_id = site.submit("x", file=upload(bundle(files)))["id"]
    assert "data" in page(site, f"/jobs/{job_id}/bundle")
    assert "print('hello')" in page(site, f"/jobs/{job_id}/bundle?path=main.py")
    assert "This is the beginning" in page(site, f"/jobs/{job_id}/bundle?path=data/big.txt")
    page(site, f"/jobs/{job_id}/bundle?path=../main.py", 404)
    address = f"/api/jobs/{job_id}/bundle/files/data/big.txt"
    whole = site.client.get(address)
    assert whole.data == files["data/big.txt"].encode()
    assert whole.headers["Content-Disposition"] == 'attachment; filename="big.txt"'
    part = site.client.get(address, headers={"Range": "bytes=300001-300004"})
    assert (part.status_code, part.data) == (206, b"1234")
    assert site.client.get(f"/api/jobs/{job_id}/bundle/files/none").status_code == 404


def test_clone_takes_the_form_and_not_the_file_in_the_bundle(site: Application) -> None:
    files = {"main.py": "", "dtrain.yaml": "gpus: 2\ntags: [from-file]\n"}
    job_id = site.submit("x", file=upload(bundle(files)), args="--a\n--b")["id"]
    form = page(site, f"/jobs/{job_id}/clone")
    assert "--a\n--b</textarea>" in form
    fields = {"name": "y", "main_entry": "main.py", "args": "--a\r\n--b", "tags": "from-file"}
    answer = site.client.post(f"/jobs/{job_id}/clone", data=fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/jobs/{job_id + 1}")
    spec = site.client.get(f"/api/jobs/{job_id + 1}").json["spec"]  # type: ignore[index]  # JSON
    assert (spec["name"], spec["gpus"]) == ("y", 0)
    assert (spec["args"], spec["tags"]) == (["--a", "--b"], ["from-file"])
    refused = site.client.post(f"/jobs/{job_id}/clone", data=fields | {"main_entry": "no.py"})
    assert refused.status_code == 422
    assert 'value="no.py"' in refused.text
    assert refused.text.count('role="alert"') == 1
