from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.command import COMMAND, dtrain, environment
from support.processes import PATIENCE, RunningServer
from support.scripted_worker import ScriptedWorker
from support.terminal import InTerminal

from dtrain.client.client import Client
from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import Job


def ended(client: Client, worker: ScriptedWorker, folder: Path, **spec: object) -> Job:
    """A job that has failed."""
    job = client.submit(folder, **spec)  # type: ignore[arg-type]  # fields of the spec
    attempt = worker.take()
    attempt.finish(exit_code=3)
    return client.jobs.wait(job.id, timeout=PATIENCE)


# retry


def test_retry_makes_new_jobs_and_names_what_it_cannot_find(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = ended(client, worker, folder, tags=["retried"])
    done = dtrain("retry", job.id, 999_999, url=server.url)
    assert done.returncode == 2
    assert done.stderr.startswith("dtrain: There is no job 999999")
    new = client.jobs.list(limit=1).jobs[0]
    assert (new.retry_of, new.spec) == (job.id, job.spec)
    assert done.stdout == (
        f"Job {new.id}: {server.url}/jobs/{new.id}\nFollow it with: dtrain logs -f {new.id}\n"
    )
    [as_json] = json.loads(dtrain("retry", job.id, "--json", url=server.url).stdout)
    assert as_json["retry_of"] == job.id


def test_retry_follows_to_the_end(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = ended(client, worker, folder)
    terminal = InTerminal(
        "retry", [*COMMAND, "retry", str(job.id), "-f"], folder, environment(server.url)
    )
    attempt = worker.take()
    attempt.log(b"once more\n")
    attempt.finish()
    assert terminal.ended() == 0
    assert "once more" in terminal.wait_for_text("completed after")


# clone


def test_clone_changes_what_options_say_and_uploads_nothing(
    server: RunningServer, client: Client, folder: Path
) -> None:
    (folder / "dtrain.yaml").write_text("name: From the file\npriority: 5\npython: '3.11'\n")
    job = client.submit(
        folder, args=["--lr", "1"], env={"A": "1", "B": "2"}, labels={"room": "4"}, tags=["x"]
    )
    changes = ["--env=B=3", "--env=C=4", "--label=rack=2", "--tag=y", "--gpus=2", "--name=Other"]
    done = dtrain("clone", job.id, *changes, "--json", "--", "--lr", "2", "-f", url=server.url)
    assert done.returncode == 0, done.stderr
    new = client.jobs.get(json.loads(done.stdout)["id"])
    assert new.bundle == job.bundle
    assert new.retry_of is None
    spec = new.spec
    assert (spec.name, spec.priority, spec.python, spec.gpus) == ("Other", 5, "3.11", 2)
    assert spec.args == ["--lr", "2", "-f"]
    assert spec.env == {"A": "1", "B": "3", "C": "4"}
    assert spec.labels == {"room": "4", "rack": "2"}
    assert spec.tags == ["y"]
    same = dtrain("clone", job.id, "--json", url=server.url)
    assert client.jobs.get(json.loads(same.stdout)["id"]).spec == job.spec


def test_clone_refuses_in_one_sentence(server: RunningServer, client: Client, folder: Path) -> None:
    job = client.submit(folder)
    for arguments, said in (
        (["--priority", "500"], "The field priority is not acceptable"),
        (["--main-entry", "other.py"], "There is no 'other.py' in the bundle"),
        (["--env", "A"], "like NAME=value"),
    ):
        done = dtrain("clone", job.id, *arguments, url=server.url)
        assert done.returncode == 2
        assert done.stderr.startswith("dtrain: ")
        assert said in done.stderr
    assert dtrain("clone", 999_999, url=server.url).returncode == 2


def editor(tmp_path: Path, *changes: str) -> str:
    """An editor that runs each of the lines on the text at one of its calls."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "calls = pathlib.Path(__file__).with_suffix('.calls')\n"
        "number = len(calls.read_text()) if calls.exists() else 0\n"
        "calls.write_text('x' * (number + 1))\n"
        "text = file.read_text()\n"
        f"exec({list(changes)!r}[number])\n"
        "file.write_text(text) if text is not None else None\n"
    )
    return f"{sys.executable} {script}"


def test_clone_edits_the_whole_spec_as_yaml(
    server: RunningServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    (folder / "dtrain.yaml").write_text("python: '3.11'\npriority: 7\n")
    job = client.submit(folder, env={"A": "no", "B": " two\nlines "}, args=["", "1e3"])
    change = (
        "assert 'Job' in text;"
        "text = text.replace(\"python: '3.11'\\n\", '').replace('priority: 7', 'priority: 9')"
    )
    done = dtrain(
        "clone", job.id, "--edit", "--gpus", "1", "--json",
        url=server.url, EDITOR=editor(tmp_path, change),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spec = client.jobs.get(json.loads(done.stdout)["id"]).spec
    assert (spec.python, spec.priority, spec.gpus) == (None, 9, 1)
    assert (spec.env, spec.args) == (job.spec.env, job.spec.args)


@pytest.mark.parametrize("change", ["text = None", "text = ''"])
def test_clone_that_is_not_saved_hands_nothing_in(
    change: str, server: RunningServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    job = client.submit(folder)
    done = dtrain("clone", job.id, "-e", url=server.url, EDITOR=editor(tmp_path, change))
    assert done.returncode == 2
    assert "nothing is handed in" in done.stderr
    assert client.jobs.list(limit=1).jobs[0].id == job.id


def test_clone_at_fault_can_be_edited_again(
    server: RunningServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    job = client.submit(folder)
    changes = ["text += 'priority: high\\n'", "text = text.replace('high', '3')"]
    changes[0] = "text = text.replace('priority: 0', 'priority: high')"
    terminal = InTerminal(
        "clone",
        [*COMMAND, "clone", str(job.id), "--edit"],
        tmp_path,
        environment(server.url, EDITOR=editor(tmp_path, *changes)),
    )
    shown = terminal.wait_for_text("Edit it again? [Y/n]")
    assert "In dtrain.yaml: the field priority is not acceptable" in shown
    terminal.type("\n")
    assert terminal.ended() == 0
    assert client.jobs.list(limit=1).jobs[0].spec.priority == 3


# delete


def test_delete_asks_first(server: RunningServer, client: Client, folder: Path) -> None:
    job = client.submit(folder, name="to be deleted")
    alone = dtrain("delete", job.id, url=server.url)
    assert alone.returncode == 2
    assert "give --yes" in alone.stderr
    command = [*COMMAND, "delete", str(job.id)]
    for answer, status in (("n\n", 2), ("\x03", 130), ("y\n", 0)):
        assert client.jobs.get(job.id).name == "to be deleted"
        terminal = InTerminal("delete", command, folder, environment(server.url))
        shown = terminal.wait_for_text("Delete for ever? [y/N]")
        assert f"Job {job.id}: to be deleted (pending)" in shown
        terminal.type(answer)
        assert terminal.ended() == status
        terminal.output.unlink()
    with pytest.raises(NotFound):
        client.jobs.get(job.id)


def test_delete_without_a_question(server: RunningServer, client: Client, folder: Path) -> None:
    one, two = client.submit(folder), client.submit(folder)
    done = dtrain("delete", "--yes", one.id, 999_999, two.id, url=server.url)
    assert done.returncode == 2
    assert done.stdout == f"Job {one.id} is deleted.\nJob {two.id} is deleted.\n"
    assert done.stderr.startswith("dtrain: There is no job 999999")
    for job in (one, two):
        with pytest.raises(NotFound):
            client.jobs.get(job.id)


# cancel as JSON, wait, explain, events, open


def test_cancel_as_json_lists_the_jobs(server: RunningServer, client: Client, folder: Path) -> None:
    jobs = [client.submit(folder).id for _ in range(2)]
    done = dtrain("cancel", "--json", *jobs, url=server.url)
    assert [(job["id"], job["status"]) for job in json.loads(done.stdout)] == [
        (job_id, "cancelled") for job_id in jobs
    ]


def test_wait_exits_by_how_all_have_ended(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    good = client.submit(folder)
    worker.take().finish()
    done = dtrain("wait", good.id, url=server.url)
    assert (done.returncode, done.stdout.split(" after")[0]) == (0, f"Job {good.id} completed")
    bad = ended(client, worker, folder)
    both = dtrain("wait", good.id, bad.id, "--json", url=server.url)
    assert both.returncode == 1
    assert [job["id"] for job in json.loads(both.stdout)] == [good.id, bad.id]
    waiting = client.submit(folder, gpus=64)
    late = dtrain("wait", waiting.id, "--timeout", "0.3", url=server.url)
    assert late.returncode == 2
    assert f"Job {waiting.id} is still pending" in late.stderr


def test_explain_says_what_each_worker_lacks(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    worker.commands()
    job = client.submit(folder, gpus=64)
    done = dtrain("explain", job.id, url=server.url)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Job {job.id}: ")
    assert "  scripted: lacks gpus 64 (has 0)\n" in done.stdout
    told = json.loads(dtrain("explain", job.id, "--json", url=server.url).stdout)
    assert told["summary"] in done.stdout


def test_events_are_listed_oldest_first(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = ended(client, worker, folder)
    done = dtrain("events", job.id, url=server.url)
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["TIME", "EVENT", "ATTEMPT", "WORKER", "NOTE"]
    assert "submitted" in rows[0]
    assert rows[-1].split()[2:5] == ["failed", "1", "scripted"]
    assert "exit_nonzero" in rows[-1]
    listed = json.loads(dtrain("events", job.id, "--json", url=server.url).stdout)
    assert listed == server.json(f"/api/jobs/{job.id}/events")["events"]


def test_show_tells_of_earlier_attempts_and_who_handed_it_in(
    server: RunningServer, worker: ScriptedWorker, folder: Path
) -> None:
    done = dtrain("submit", folder, "--max-retries", "1", "--json", url=server.url,
                  DTRAIN_SUBMITTER="Zoë")  # fmt: skip
    job_id = json.loads(done.stdout)["id"]
    worker.take().finish(exit_code=1)
    attempt = worker.take()
    attempt.go_on()
    shown = dtrain("show", job_id, url=server.url, PYTHONIOENCODING="utf-8").stdout
    assert " by Zoë" in shown
    lines = shown.partition("attempts\n")[2].splitlines()
    assert lines[0].startswith("    1 on scripted, ")
    assert "code 1" in lines[0]
    assert lines[1].startswith("    2 on scripted, ")
    attempt.finish()


def test_open_opens_the_page_or_prints_where_it_is(
    server: RunningServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    job = client.submit(folder)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n')
    browser.chmod(0o755)
    done = dtrain("open", job.id, url=server.url, BROWSER=str(browser))
    assert (done.returncode, done.stdout) == (0, f"{server.url}/jobs/{job.id}\n")
    assert (tmp_path / "opened").read_text() == done.stdout
    none = dtrain("open", url=server.url, BROWSER="/nowhere", PATH="/nowhere")
    assert (none.returncode, none.stdout, none.stderr) == (0, f"{server.url}\n", "")
    assert dtrain("open", 999_999, url=server.url, BROWSER=str(browser)).returncode == 2


# workers


def test_workers_are_drained_and_resumed_by_name_or_id(
    server: RunningServer, client: Client
) -> None:
    workers = [ScriptedWorker(server, name) for name in ("twin", "twin", "single")]
    for worker in workers:
        worker.commands()
    single = client.workers.find("single")
    twins = [each for each in client.workers.list() if each.name == "twin"]
    done = dtrain("drain", "single", "twin", "nobody", twins[0].id, url=server.url)
    assert done.returncode == 2
    assert done.stdout == "single takes nothing new.\ntwin takes nothing new.\n"
    ambiguous, unknown = done.stderr.splitlines()
    assert ambiguous.startswith("dtrain: There are 2 workers 'twin'; name one by its id: ")
    assert all(f"{each.id} on host.example" in ambiguous for each in twins)
    assert unknown.startswith("dtrain: There is no worker 'nobody'")
    states = {each.id: each.state for each in client.workers.list()}
    assert [states[each.id] for each in (single, *twins)] == ["draining", "draining", "online"]
    back = dtrain("resume", single.id[:8], twins[0].id, "--json", url=server.url)
    assert [each["state"] for each in json.loads(back.stdout)] == ["online", "online"]
    shown = dtrain("workers", url=server.url).stdout
    assert single.id[:8] in shown
    for worker in workers:
        worker.close()
