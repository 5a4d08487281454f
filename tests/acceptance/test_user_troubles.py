"""What goes wrong for users, and that they are told in one sentence what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.api import get_json, log_of, wait_for_status
from support.checkout import TOKEN, Checkout, write_config
from support.example_job import zip_of
from support.processes import free_port, wait_for
from support.requirements import require
from support.terminal import InTerminal

CopyRunFolder = Callable[[str], Path]


def refusal(checkout: Checkout, url: str, folder: Path, *fields: str) -> Any:
    """The problem document that answers a submission by `curl`."""
    require("curl")
    form = " ".join(f'-F "{field}"' for field in fields)
    line = f"curl -sS -w '\\n%{{http_code}} %{{content_type}}' -X POST {url}/api/jobs {form}"
    done = checkout.shell(line, folder)
    body, _, status = done.stdout.rpartition("\n")
    assert status.endswith("application/problem+json"), done.stdout
    problem = json.loads(body)
    assert str(problem["status"]) == status.split()[0]
    assert get_json(f"{url}/api/jobs")["jobs"] == []
    return problem


def test_worker_waits_for_a_server_that_is_down(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    port = free_port()
    worker = run_folder("worker")
    write_config(worker, f"http://localhost:{port}")
    agent = checkout.start_worker(worker)
    wait_for(lambda: f"localhost:{port}" in agent.text(), 20, "the worker to complain")
    assert agent.alive
    assert "Traceback" not in agent.text()

    url = checkout.start_server(run_folder("server"), {"DTRAIN_PORT": str(port)})

    wait_for(lambda: get_json(f"{url}/api/workers")["workers"], 20, "the worker to be known")


def test_worker_says_that_its_token_is_refused(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url, token="a-wrong-token")
    agent = checkout.start_worker(worker)

    wait_for(lambda: "token" in agent.text(), 20, "the worker to complain")

    assert "Traceback" not in agent.text()
    assert "a-wrong-token" not in agent.text()
    assert get_json(f"{url}/api/workers")["workers"] == []


def test_worker_without_settings_says_which_it_needs(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    done = checkout.shell("python agent.py", run_folder("worker"))
    assert done.returncode == 2
    assert "config.json" in done.stderr
    assert "DTRAIN_WORKER_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unknown_settings_are_refused_by_name(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    worker, server = run_folder("worker"), run_folder("server")
    write_config(worker, "http://localhost:5000", max_concurent_jobs=2)
    (server / "config.py").write_text('DATABASE_URI = "sqlite:///app.db"\n')

    for folder, entry, name in (
        (worker, "agent.py", "max_concurent_jobs"),
        (server, "app.py", "DATABASE_URI"),
    ):
        done = checkout.shell(f"python {entry}", folder)
        assert done.returncode == 2
        assert name in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_bundle_without_main_is_refused_and_says_what_it_holds(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    zip_of(tmp_path / "job.zip", {"train.py": "print(1)"})

    problem = refusal(checkout, url, tmp_path, "name=No main", "file=@job.zip")

    assert "main.py" in problem["detail"]
    assert "train.py" in problem["detail"]


def test_file_that_is_no_zip_is_refused(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    (tmp_path / "main.py").write_text("print(1)")

    problem = refusal(checkout, url, tmp_path, "name=No ZIP", "file=@main.py")

    assert "ZIP" in problem["detail"]


def test_requirements_that_cannot_be_met_fail_the_job_with_the_resolvers_words(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url)
    checkout.start_worker(worker)
    missing = "click>=8,<2"
    zip_of(tmp_path / "job.zip", {"main.py": "print('never')", "requirements.txt": missing})
    require("curl")
    checkout.shell(f'curl -F "name=x" -F "file=@job.zip" {url}/api/jobs', tmp_path)

    job = wait_for_status(url, 1, "failed")

    assert job["reason"] == "environment_failed"
    log = log_of(url, 1).decode()
    assert "No solution found" in log
    assert "click" in log
    assert "never" not in log


def test_worker_that_cannot_ask_says_what_to_set(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    worker = run_folder("worker")
    write_config(worker, "http://localhost:5000", auto_accept_jobs=False)

    done = checkout.shell("python agent.py", worker)

    assert done.returncode == 2
    assert "auto_accept_jobs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("key", "status"), [("a", "completed"), ("d", "pending")])
def test_owner_is_asked_at_the_terminal(
    key: str, status: str, checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url, auto_accept_jobs=False)
    environment = checkout.environment()
    agent = InTerminal("python agent.py", ["python", "agent.py"], worker, environment)
    zip_of(tmp_path / "job.zip", {"main.py": "print('hello')"})
    require("curl")
    line = f'curl -F "name=My Training Job" -F "file=@job.zip" {url}/api/jobs'
    checkout.shell(line, tmp_path)

    shown = agent.wait_for_text("[a]ccept")
    assert "My Training Job" in shown
    assert "main.py" in shown
    assert get_json(f"{url}/api/jobs/1")["phase"] == "offered"
    agent.type("?\n")
    agent.wait_for_text("max_retries")
    agent.type(f"{key}\n")

    if key == "a":
        wait_for_status(url, 1, "completed")
        assert log_of(url, 1) == b"hello\n"
    else:
        declined = f"{url}/api/jobs/1/explain"
        fits = wait_for(lambda: get_json(declined)["workers"], 10, "an explanation")
        wait_for(lambda: get_json(declined)["workers"][0]["declined"], 10, str(fits))
    assert get_json(f"{url}/api/jobs/1")["status"] == status
    agent.type("\x03")
    wait_for(lambda: not agent.alive, 20, "Ctrl-C to end the agent")
    assert TOKEN not in agent.text()
