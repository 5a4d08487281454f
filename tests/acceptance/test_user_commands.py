"""What users type to run a server, workers and jobs, and what they are told when it goes wrong.

All of it is in one file, since it needs one clone that is set up, and port 5000.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.api import get, get_json, log_of, records_of, wait_for_status
from support.checkout import TOKEN, Checkout, write_config
from support.example_job import MAIN, RECORDS, expected_log, zip_of
from support.processes import free_port, wait_for
from support.requirements import require
from support.terminal import InTerminal

# One of them may wait for another file's use of port 5000.
pytestmark = pytest.mark.usefixtures("usual_port")
CopyRunFolder = Callable[[str], Path]

SUBMIT = """\
curl -X POST http://localhost:5000/api/jobs \\
  -F "name=My Training Job" \\
  -F "main_entry=main.py" \\
  -F "requirements_file=requirements.txt" \\
  -F "file=@my_training_job.zip"
"""


def submit(checkout: Checkout, url: str, folder: Path) -> Any:
    """What the server answers to the `curl` of the README, given in the folder of the ZIP."""
    require("curl")
    done = checkout.shell(SUBMIT.replace("http://localhost:5000", url), folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def worker_names(url: str) -> list[str]:
    return sorted(worker["name"] for worker in get_json(f"{url}/api/workers")["workers"])


def test_commands_word_for_word_run_the_example_job(checkout: Checkout, tmp_path: Path) -> None:
    server, worker = checkout.root / "server", checkout.root / "worker"
    try:
        url = checkout.start_server(server)
        write_config(worker, url)
        checkout.start_worker(worker)
        zip_of(tmp_path / "my_training_job.zip", {"main.py": MAIN, "requirements.txt": "click\n"})

        job = submit(checkout, url, tmp_path)
        assert (job["id"], job["name"], job["status"]) == (1, "My Training Job", "pending")
        ended = wait_for_status(url, 1, "completed", "failed")

        log = log_of(url, 1).decode()
        assert ended["status"] == "completed", log
        assert log.endswith(expected_log())
        assert records_of(url, 1) == RECORDS
        assert ended["worker"] == "worker-1"
        for page in ("/", "/workers", "/jobs/1"):
            assert b"<html" in get(url + page)
    finally:
        shutil.rmtree(server / "data", ignore_errors=True)
        shutil.rmtree(worker / "data", ignore_errors=True)
        (worker / "config.json").unlink(missing_ok=True)


def test_job_without_requirements_prints_nothing_but_its_own(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url)
    checkout.start_worker(worker)
    zip_of(tmp_path / "my_training_job.zip", {"main.py": MAIN})

    submit(checkout, url, tmp_path)
    wait_for_status(url, 1, "completed")

    assert log_of(url, 1).decode() == expected_log()
    assert records_of(url, 1) == RECORDS


def test_server_reads_the_settings_of_its_environment(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    server, worker = run_folder("server"), run_folder("worker")
    url = checkout.start_server(
        server,
        {
            "SECRET_KEY": "your-secret-key",
            "DATABASE_URL": "sqlite:///app.db",
            "UPLOAD_FOLDER": str(tmp_path / "uploads"),
            "JOB_BUNDLES_FOLDER": str(tmp_path / "job-bundles"),
        },
    )
    write_config(worker, url)
    checkout.start_worker(worker)
    leave = "import os, pathlib\npathlib.Path(os.environ['DTRAIN_OUTPUT_DIR'], 'm').write_text('x')"
    zip_of(tmp_path / "my_training_job.zip", {"main.py": leave})
    submit(checkout, url, tmp_path)
    wait_for_status(url, 1, "completed")

    assert (server / "app.db").is_file()
    assert any(path.is_file() for path in (tmp_path / "uploads").rglob("*"))
    assert any(path.is_file() for path in (tmp_path / "job-bundles").rglob("*"))
    assert get(f"{url}/api/jobs/1/artifacts/m") == b"x"


def test_worker_is_told_by_variables_alone(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    variables = {
        "DTRAIN_SERVER_URL": url,
        "DTRAIN_WORKER_TOKEN": TOKEN,
        "DTRAIN_WORKER_NAME": "worker-1",
        "DTRAIN_POLL_INTERVAL": "10",
        "DTRAIN_MAX_JOBS": "2",
        "DTRAIN_AUTO_ACCEPT_JOBS": "true",
    }
    checkout.start_worker(run_folder("worker"), variables)
    wait_for(lambda: worker_names(url) == ["worker-1"], "the worker to be known")

    (worker,) = get_json(f"{url}/api/workers")["workers"]
    assert worker["capacity"]["slots"] == 2


def test_two_names_make_two_workers_of_one_folder(
    checkout: Checkout, run_folder: CopyRunFolder, tmp_path: Path
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url)
    for name in ("worker-1", "worker-2"):
        checkout.start_worker(worker, {"DTRAIN_WORKER_NAME": name})
    wait_for(lambda: worker_names(url) == ["worker-1", "worker-2"], "both workers")

    zip_of(tmp_path / "my_training_job.zip", {"main.py": MAIN})
    for _ in range(2):
        submit(checkout, url, tmp_path)
    ended = [wait_for_status(url, job, "completed") for job in (1, 2)]

    assert sorted(job["worker"] for job in ended) == ["worker-1", "worker-2"]
    assert {path.name for path in (worker / "data").iterdir()} >= {"worker-1", "worker-2"}


def test_second_agent_of_a_name_refuses_to_start(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url)
    checkout.start_worker(worker)
    wait_for(lambda: worker_names(url) == ["worker-1"], "the first agent")

    second = checkout.shell("python agent.py", worker)

    assert second.returncode == 2
    assert "worker-1" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_debug_mode_shows_what_the_worker_does(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url)

    def chatter(env: dict[str, str]) -> str:
        agent = checkout.start_worker(worker, env)
        known = f"{url}/api/workers"
        wait_for(lambda: get_json(known)["workers"], "the worker to be known")
        wait_for(lambda: "worker-1" in agent.text(), "the worker to say so")
        agent.stop()
        text = agent.text()
        agent.output.unlink()
        return text

    quiet, loud = chatter({}), chatter({"DTRAIN_DEBUG": "true"})
    assert "/api/worker/" in loud
    assert "/api/worker/" not in quiet
    assert TOKEN not in loud


def test_second_server_on_the_same_data_refuses(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    server = run_folder("server")
    url = checkout.start_server(server)

    second = checkout.shell("python app.py", server, {"DTRAIN_PORT": str(free_port())})

    assert second.returncode == 2
    assert re.fullmatch(r"Another DTrain server .*\n", second.stderr), second.stderr
    assert get_json(f"{url}/api/jobs")["jobs"] == []


def test_example_stands_alone_and_goes_on_from_its_checkpoint(
    checkout: Checkout, tmp_path: Path
) -> None:
    example = checkout.root / "examples" / "digits"
    installed = checkout.shell("pip install -r requirements.txt", example, limit=400)
    assert installed.returncode == 0, installed.stdout + installed.stderr

    first = checkout.shell(f"python {example}/main.py --epochs 2", tmp_path)
    second = checkout.shell(f"python {example}/main.py --epochs 3", tmp_path)

    assert first.stdout.count("PROGRESS: ") == 2, first.stderr
    assert second.stdout.count("PROGRESS: ") == 1, second.stderr
    assert "Resumed from epoch 2" in second.stdout
    names = {path.name for path in (tmp_path / "output").iterdir()}
    assert names == {"confusion.png", "metrics.json", "model.npz"}


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
    wait_for(lambda: f"localhost:{port}" in agent.text(), "the worker to complain")
    assert agent.alive
    assert "Traceback" not in agent.text()

    url = checkout.start_server(run_folder("server"), {"DTRAIN_PORT": str(port)})

    wait_for(lambda: get_json(f"{url}/api/workers")["workers"], "the worker to be known")


def test_worker_says_that_its_token_is_refused(
    checkout: Checkout, run_folder: CopyRunFolder
) -> None:
    url = checkout.start_server(run_folder("server"))
    worker = run_folder("worker")
    write_config(worker, url, token="a-wrong-token")
    agent = checkout.start_worker(worker)

    wait_for(lambda: "token" in agent.text(), "the worker to complain")

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
    write_config(worker, "http://localhost:5000", auto_accept_jobs=False, answer_on_page=False)

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
    if key == "d":
        agent.wait_for_text("Reason (Enter for none)")
        agent.type("too big for me\n")

    if key == "a":
        wait_for_status(url, 1, "completed")
        assert log_of(url, 1) == b"hello\n"
    else:
        declined = f"{url}/api/jobs/1/explain"
        fits = wait_for(lambda: get_json(declined)["workers"], "an explanation")
        wait_for(lambda: get_json(declined)["workers"][0]["declined"], str(fits))
    assert get_json(f"{url}/api/jobs/1")["status"] == status
    agent.type("\x03")
    wait_for(lambda: not agent.alive, "Ctrl-C to end the agent")
    assert TOKEN not in agent.text()
