"""What users type to run a server and workers and to hand in a job, as real processes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.api import get, get_json, log_of, records_of, wait_for_status
from support.checkout import TOKEN, Checkout, write_config
from support.example_job import MAIN, RECORDS, expected_log, zip_of
from support.processes import free_port, wait_for
from support.requirements import require

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
    wait_for(lambda: worker_names(url) == ["worker-1"], 20, "the worker to be known")

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
    wait_for(lambda: worker_names(url) == ["worker-1", "worker-2"], 20, "both workers")

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
    wait_for(lambda: worker_names(url) == ["worker-1"], 20, "the first agent")

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
        wait_for(lambda: get_json(known)["workers"], 20, "the worker to be known")
        wait_for(lambda: "worker-1" in agent.text(), 20, "the worker to say so")
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
