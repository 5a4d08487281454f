from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import COMMAND, dtrain, environment
from support.example_job import zip_of
from support.processes import PATIENCE, RunningServer, start_server
from support.scripted_worker import ScriptedWorker
from support.terminal import InTerminal

from dtrain.client.client import Client
from dtrain.protocol.messages import Job
from dtrain.protocol.states import Cause, Status


def ended(client: Client, worker: ScriptedWorker, folder: Path, **spec: object) -> Job:
    """A job that has printed something and failed."""
    job = client.submit(folder, **spec)
    attempt = worker.take()
    attempt.go_on()
    attempt.log(b'PROGRESS: {"epoch": 3, "epochs": 4, "loss": 0.25}\n')
    attempt.leave("sub/model.bin", bytes(5000))
    attempt.finish(exit_code=3, traceback="Traceback:\n  ValueError: \x1b[31mred\x1b[0m\n")
    return client.jobs.wait(job.id, timeout=PATIENCE)


# submit


def test_submit_prints_number_address_and_what_to_type(
    server: RunningServer, client: Client, folder: Path
) -> None:
    done = dtrain("submit", folder, url=server.url)
    assert done.returncode == 0, done.stderr
    newest = client.jobs.list(limit=1).jobs[0]
    assert newest.name == "my-training"
    assert done.stdout == (
        f"Job {newest.id}: {server.url}/jobs/{newest.id}\n"
        f"Follow it with: dtrain logs -f {newest.id}\n"
    )
    assert done.stderr.startswith("Packed 1 file, 15 B.")


def test_submit_brings_every_flag_to_the_spec(
    server: RunningServer, client: Client, folder: Path
) -> None:
    (folder / "train.py").write_text("1")
    (folder / "needs.txt").write_text("")
    flags = (
        "--name=Ein Name --main-entry=train.py --arg=--first --requirements-file=needs.txt"
        " --python=3.11 --tag=a --tag=b --priority=7 --cpus=1.5 --memory-gb=0.5 --gpus=1"
        " --label=disk=ssd --time-limit=2h --max-retries=3 --on-partition=stop --image=x:1"
        " --executor=docker --env=A=1 --env=B=x=y"
    ).replace("=Ein Name", "=Ein_Name")
    done = dtrain(
        "submit", folder, *flags.split(), "--json", "--", "--epochs", "5", "-f", url=server.url
    )
    assert done.returncode == 0, done.stderr
    spec = client.jobs.get(json.loads(done.stdout)["id"]).spec
    assert spec.name == "Ein_Name"
    assert spec.main_entry == "train.py"
    assert spec.args == ["--first", "--epochs", "5", "-f"]
    assert spec.requirements_file == "needs.txt"
    assert (spec.python, spec.image, spec.executor) == ("3.11", "x:1", "docker")
    assert (spec.tags, spec.labels) == (["a", "b"], {"disk": "ssd"})
    assert (spec.priority, spec.cpus, spec.memory_gb, spec.gpus) == (7, 1.5, 0.5, 1)
    assert (spec.time_limit, spec.max_retries, spec.on_partition) == (7200, 3, "stop")
    assert spec.env == {"A": "1", "B": "x=y"}


def test_submit_takes_a_zip(server: RunningServer, client: Client, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "handed-in.zip", {"main.py": "1"})
    done = dtrain("submit", path, "--json", url=server.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "handed-in"
    assert done.stderr == ""


def test_submit_says_what_it_has_left_out_unasked(server: RunningServer, folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("1")
    done = dtrain("submit", folder, url=server.url)
    assert done.stderr == (
        "Packed 1 file, 15 B.\nLeft out: link, a link that leads out of the folder.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "There is no folder or ZIP file 'nowhere'"),
        (["my-training/main.py"], "neither a folder nor a ZIP file"),
        (["my-training", "--priority", "1000"], "The field priority is not acceptable"),
        (["my-training", "--time-limit", "soon"], "no duration"),
        (["my-training", "--env", "A"], "like NAME=value"),
        (["my-training", "--name", "x" * 10_000], "The field name is not acceptable"),
        (["my-training", "--name", "a\x1b[2Jb"], "The field name is not acceptable"),
        (["my-training", "--main-entry", "train.py"], "There is no"),
        (["empty"], "holds no file"),
    ],
)
def test_submit_refuses_in_one_sentence(
    arguments: list[str], said: str, server: RunningServer, client: Client, folder: Path
) -> None:
    (folder.parent / "empty").mkdir()
    before = client.jobs.list(limit=1).jobs
    done = dtrain("submit", *arguments, url=server.url, folder=folder.parent)
    assert done.returncode == 2
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dtrain: ")
    assert said in last
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert client.jobs.list(limit=1).jobs == before


# jobs


def test_jobs_shows_a_row_for_each_newest_first(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    old = ended(client, worker, folder, name="the older one", tags=["rows"])
    new = client.submit(folder, name="the newer one", tags=["rows"])
    done = dtrain("jobs", "--tag", "rows", url=server.url)
    assert done.returncode == 0, done.stderr
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["ID", "NAME", "STATUS", "DONE", "WORKER", "BY", "SUBMITTED", "TOOK"]
    assert first.split()[:5] == [str(new.id), "the", "newer", "one", "pending"]
    expected = [str(old.id), "the", "older", "one", "failed", "(exit_nonzero)", "75%", "scripted"]
    assert second.split()[:8] == expected


def test_jobs_filters_and_limits(server: RunningServer, client: Client, folder: Path) -> None:
    made = [client.submit(folder, name=f"job {n}", tags=["few"]).id for n in range(3)]
    client.jobs.cancel(made[0])

    def ids(*arguments: str) -> list[int]:
        done = dtrain("jobs", "--json", "--tag", "few", *arguments, url=server.url)
        return [job["id"] for job in json.loads(done.stdout)]

    assert ids() == made[::-1]
    assert ids("--status", "cancelled") == [made[0]]
    assert ids("-q", "JOB 1") == [made[1]]
    assert ids("--limit", "2") == made[:0:-1]
    more = dtrain("jobs", "--tag", "few", "--limit", "2", url=server.url)
    assert "There are more" in more.stderr
    none = dtrain("jobs", "--tag", "none", url=server.url)
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "No job fits.\n")


def test_jobs_reads_as_many_pages_as_it_takes(server: RunningServer, tmp_path: Path) -> None:
    home = start_server(tmp_path / "many")
    client = Client(home.url)
    path = zip_of(tmp_path / "x.zip", {"main.py": "1"})
    made = [client.submit(path).id for _ in range(205)]
    client.close()
    done = dtrain("jobs", "--json", "--limit", "1000", url=home.url)
    assert [job["id"] for job in json.loads(done.stdout)] == made[::-1]


def test_jobs_fits_the_terminal(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    ended(client, worker, folder, name="a long name " * 15, tags=["wide"])
    terminal = InTerminal(
        "jobs", [*COMMAND, "jobs", "--tag", "wide"], folder, environment(server.url)
    )
    assert terminal.ended() == 0
    shown = terminal.wait_for_text("scripted")
    lines = [line for line in shown.splitlines() if line.strip()]
    assert len(lines) == 2
    assert max(map(len, lines)) <= 120
    assert "…" in lines[1]
    assert "failed (exit_nonzero)" in lines[1]
    assert "\x1b[31m" in terminal.text()
    plain = dtrain("jobs", "--tag", "wide", url=server.url).stdout
    assert ("a long name " * 15).strip() in plain
    assert "\x1b" not in plain


# show


def test_show_tells_how_a_job_ended_and_what_it_left(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = ended(client, worker, folder, args=["--epochs", "5"], env={"KEY": "hidden"}, gpus=0)
    done = dtrain("show", job.id, url=server.url)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert shown.startswith(f"Job {job.id}  my-training  failed (exit_nonzero)\n")
    for text in (
        f"{server.url}/jobs/{job.id}",
        "code 3",
        "scripted, attempt 1",
        "75%  epoch 3/4, loss 0.25",
        "main.py --epochs 5",
        "123.0 MB",
        "4.9 kB  sub/model.bin",
        "KEY",
        "ValueError: \ufffd[31mred",
    ):
        assert text in shown
    assert "hidden" not in shown
    assert "\x1b" not in shown


def test_show_explains_why_a_job_waits(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = client.submit(folder, gpus=8)
    done = dtrain("show", job.id, url=server.url)
    assert "scripted: lacks gpus 8 (has 0)" in done.stdout


def test_show_as_json_is_the_job(server: RunningServer, client: Client, folder: Path) -> None:
    job = client.submit(folder)
    done = dtrain("show", job.id, "--json", url=server.url)
    assert json.loads(done.stdout) == json.loads(server.read(f"/api/jobs/{job.id}"))


# cancel, workers


def test_cancel_stops_jobs_and_names_the_ones_it_cannot_find(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    running = client.submit(folder)
    attempt = worker.take()
    attempt.go_on()
    waiting = client.submit(folder, gpus=4)
    done = dtrain("cancel", running.id, waiting.id, 999_999, waiting.id, url=server.url)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        f"Job {running.id} is being stopped.",
        f"Job {waiting.id} is cancelled.",
        f"Job {waiting.id} is cancelled.",
    ]
    assert done.stderr.startswith("dtrain: There is no job 999999")
    assert [command.action for command in worker.commands()] == ["cancel"]
    attempt.finish(Cause.CANCELLED, exit_code=None)
    assert client.jobs.wait(running.id, timeout=PATIENCE).status is Status.CANCELLED


def test_cancel_of_an_ended_job_says_so(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = ended(client, worker, folder)
    done = dtrain("cancel", job.id, url=server.url)
    assert done.stdout == f"Job {job.id} had already ended: failed.\n"


def test_workers_shows_each_with_what_it_is_at(
    server: RunningServer, worker: ScriptedWorker
) -> None:
    worker.commands()
    done = dtrain("workers", url=server.url)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    columns = ["NAME", "ID", "STATE", "JOBS", "CPU", "MEMORY", "ISOLATION", "HOST", "SEEN"]
    assert head.split() == columns
    texts = ("online", "0 of 4", "12 %", "1.0 GB of 8.0 GB", "host.example", "just now")
    # The workers of the tests before are listed as well.
    assert [
        row for row in rows if row.startswith("scripted") and all(text in row for text in texts)
    ]
    listed = json.loads(dtrain("workers", "--json", url=server.url).stdout)
    assert {each["name"] for each in listed} == {"scripted"}
