from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import dtrain
from support.processes import PATIENCE, RunningServer
from support.scripted_worker import ScriptedWorker

from dtrain.client.client import Client
from dtrain.protocol.messages import Job

LOG = b"".join(
    b'PROGRESS: {"epoch": %d, "loss": %s, "note": "n%d"}\n' % (epoch, loss, epoch)
    for epoch, loss in enumerate([b"1.5", b"0.75", b"NaN", b"0.25"])
)


@pytest.fixture
def job(client: Client, worker: ScriptedWorker, folder: Path) -> Job:
    """One that has left files and records."""
    made = client.submit(folder)
    attempt = worker.take()
    attempt.go_on()
    attempt.log(LOG)
    attempt.leave("models/best.pt", b"best")
    attempt.leave("models/last.pt", b"last one")
    attempt.leave("größe \x1b[31m.txt", b"")
    attempt.finish()
    return client.jobs.wait(made.id, timeout=PATIENCE)


# artifacts


def test_artifacts_are_downloaded_into_a_folder_of_the_job(
    server: RunningServer, job: Job, tmp_path: Path
) -> None:
    done = dtrain("artifacts", job.id, url=server.url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / f"job-{job.id}"
    assert (folder / "models" / "best.pt").read_bytes() == b"best"
    assert (folder / "models" / "last.pt").read_bytes() == b"last one"
    assert (folder / "größe \x1b[31m.txt").read_bytes() == b""
    assert f"job-{job.id}/models/best.pt" in done.stdout.splitlines()
    assert done.stderr == f"3 files, 12 B, in job-{job.id}.\n"
    assert "\x1b" not in done.stdout


def test_artifacts_that_a_pattern_means_are_downloaded_and_none_overwritten(
    server: RunningServer, job: Job, tmp_path: Path
) -> None:
    def download(*arguments: str) -> tuple[int, str]:
        done = dtrain("artifacts", job.id, *arguments, url=server.url, folder=tmp_path)
        return done.returncode, done.stderr

    assert download("best.pt", "-o", "out")[0] == 0
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["models", "best.pt"]
    (tmp_path / "out" / "models" / "best.pt").write_text("mine")
    code, said = download("models", "-o", "out")
    assert (code, said.startswith("dtrain: 'out/models/best.pt' is there already")) == (2, True)
    assert not (tmp_path / "out" / "models" / "last.pt").exists()
    assert download("models", "-o", "out", "--force")[0] == 0
    assert (tmp_path / "out" / "models" / "best.pt").read_bytes() == b"best"
    code, said = download("*.png")
    assert (code, said) == (2, "dtrain: No artifact fits '*.png'; list them with --list.\n")


def test_artifacts_are_listed(server: RunningServer, job: Job, tmp_path: Path) -> None:
    done = dtrain("artifacts", job.id, "--list", "*.pt", url=server.url, folder=tmp_path)
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["SIZE", "PATH", "SHA-256"]
    assert [row.split()[:3] for row in rows] == [
        ["4", "B", "models/best.pt"],
        ["8", "B", "models/last.pt"],
    ]
    assert list(tmp_path.glob("job-*")) == []
    listed = json.loads(dtrain("artifacts", job.id, "--json", url=server.url).stdout)
    assert listed == server.json(f"/api/jobs/{job.id}/artifacts")["artifacts"]


def test_job_that_has_left_nothing_says_so(
    server: RunningServer, client: Client, folder: Path
) -> None:
    waiting = client.submit(folder)
    done = dtrain("artifacts", waiting.id, url=server.url)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Job {waiting.id} has left nothing.\n"


# bundle


def test_bundle_is_what_was_handed_in(
    server: RunningServer, client: Client, job: Job, tmp_path: Path
) -> None:
    done = dtrain("bundle", job.id, "-o", "a/b.zip", url=server.url, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a/b.zip\n"), done.stderr
    again = client.submit(tmp_path / "a" / "b.zip")
    assert again.bundle == job.bundle
    second = dtrain("bundle", job.id, "-o", "a/b.zip", url=server.url, folder=tmp_path)
    assert second.returncode == 2
    assert "there already" in second.stderr
    listed = dtrain("bundle", job.id, "--list", url=server.url)
    assert [row.split() for row in listed.stdout.splitlines()[1:]] == [["15", "B", "main.py"]]
    held = json.loads(dtrain("bundle", job.id, "--json", url=server.url).stdout)
    assert held == server.json(f"/api/jobs/{job.id}/bundle/files")


# metrics


def test_metrics_show_the_last_value_the_bounds_and_the_course(
    server: RunningServer, job: Job
) -> None:
    done = dtrain("metrics", job.id, url=server.url, PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    head, loss, note = done.stdout.splitlines()
    assert head.split() == ["NAME", "LAST", "LEAST", "MOST", "RECORDS", "COURSE"]
    assert loss.split() == ["loss", "0.25", "0.25", "1.5", "4", "█▄", "▁"]
    assert note.split() == ["note", "n3", "4"]
    assert done.stderr == "At epoch 3.\n"
    plain = dtrain("metrics", job.id, url=server.url, PYTHONIOENCODING="ascii")
    assert plain.stdout.splitlines()[1].split() == ["loss", "0.25", "0.25", "1.5", "4"]


def test_metrics_for_programs(server: RunningServer, job: Job) -> None:
    csv = dtrain("metrics", job.id, "--csv", url=server.url)
    assert csv.stdout == (
        "step,epoch,loss,note\n0.0,0,1.5,n0\n1.0,1,0.75,n1\n2.0,2,nan,n2\n3.0,3,0.25,n3\n"
    )
    records = json.loads(dtrain("metrics", job.id, "--json", url=server.url).stdout)
    assert records == server.json(f"/api/jobs/{job.id}/metrics")["records"]
    only = json.loads(dtrain("metrics", job.id, "--json", "-k", "loss", url=server.url).stdout)
    assert [record["values"] for record in only] == [
        {"loss": 1.5},
        {"loss": 0.75},
        {"loss": "NaN"},
        {"loss": 0.25},
    ]


def test_metrics_name_what_is_not_there(
    server: RunningServer, client: Client, job: Job, folder: Path
) -> None:
    unknown = dtrain("metrics", job.id, "--key", "accuracy", url=server.url)
    assert unknown.returncode == 2
    assert unknown.stderr == f"dtrain: Job {job.id} has measured no 'accuracy'.\n"
    both = dtrain("metrics", job.id, "--csv", "--json", url=server.url)
    assert both.returncode == 2
    waiting = client.submit(folder)
    none = dtrain("metrics", waiting.id, url=server.url)
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr == f"Job {waiting.id} has measured nothing yet.\n"


# logs


def test_chosen_lines_of_a_log(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    made = client.submit(folder)
    attempt = worker.take()
    attempt.log(b"INFO: one\nERROR: two\x1b[31m\nERROR: three\n" * 800)
    attempt.finish()
    client.jobs.wait(made.id, timeout=PATIENCE)
    errors = dtrain("logs", made.id, "--level", "error", "-q", "TWO", url=server.url)
    assert errors.returncode == 0, errors.stderr
    assert errors.stdout == "ERROR: two\ufffd[31m\n" * 800
    lines = dtrain("logs", made.id, "--json", url=server.url).stdout.splitlines()
    assert len(lines) == 2400
    assert json.loads(lines[1]) == {"number": 1, "level": "ERROR", "text": "ERROR: two\x1b[31m"}
    assert dtrain("logs", made.id, "--level", "error", "-f", url=server.url).returncode == 2
