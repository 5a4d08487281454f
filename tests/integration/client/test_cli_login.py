"""`dtrain login`, `logout` and `token` against real servers."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.certificate import Authority
from support.command import COMMAND, environment
from support.command import dtrain as run
from support.http_peer import peer
from support.processes import (
    PATIENCE,
    RunningServer,
    free_port,
    start_server,
    start_worker,
    wait_for,
)
from support.secure import SecureServer
from support.terminal import InTerminal

from dtrain.client.client import Client
from dtrain.protocol.errors import Unauthorized
from dtrain.server.kept_secrets import read_kept
from dtrain.server.settings import load

TOKEN = "the-access-token-of-this-test-here"
Dtrain = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def dtrain(tmp_path: Path) -> Dtrain:
    """The command, with a configuration folder of the test's own."""

    def command(*arguments: object, **options: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, **{"XDG_CONFIG_HOME": str(tmp_path / "configuration"), **options})

    return command


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that asks this machine for its token."""
    running = start_server(tmp_path_factory.mktemp("closed") / "home", DTRAIN_ACCESS_TOKEN=TOKEN)
    yield running
    running.stop()


def test_login_is_used_by_the_commands_after_it(closed: RunningServer, dtrain: Dtrain) -> None:
    refused = dtrain("jobs", url=closed.url)
    assert refused.returncode == 2
    assert "Log in with dtrain login" in refused.stderr
    done = dtrain("login", closed.url, stdin=f"{TOKEN}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Logged in at {closed.url}; commands go there now.\n"
    assert dtrain("jobs", "--json").returncode == 0
    # It is kept, and asked for no more.
    assert dtrain("login", closed.url).stdout == done.stdout
    out = dtrain("logout")
    assert (out.returncode, out.stdout) == (0, f"Logged out of {closed.url}.\n")
    assert dtrain("jobs", url=closed.url).returncode == 2
    again = dtrain("logout")
    assert again.returncode == 2
    assert again.stderr == "dtrain: You are not logged in anywhere; there is nothing to forget.\n"


@pytest.mark.parametrize("way", ["option", "option before", "terminal"])
def test_token_is_taken_from_an_option_or_a_terminal(
    closed: RunningServer, dtrain: Dtrain, tmp_path: Path, way: str
) -> None:
    if way == "terminal":
        env = environment(XDG_CONFIG_HOME=str(tmp_path / "configuration"))
        terminal = InTerminal("login", [*COMMAND, "login", closed.url], tmp_path, env)
        terminal.wait_for_text("Access token:")
        terminal.type(f"{TOKEN}\n")
        assert terminal.ended() == 0
        assert TOKEN not in terminal.text()
    elif way == "option":
        assert dtrain("login", closed.url, "--token", TOKEN).returncode == 0
    else:
        assert dtrain("--server", closed.url, "--token", TOKEN, "login").returncode == 0
    assert dtrain("jobs", "--json").returncode == 0


def test_wrong_token_is_not_kept(closed: RunningServer, dtrain: Dtrain, tmp_path: Path) -> None:
    for token in ("wrong", TOKEN[:-1]):
        done = dtrain("login", closed.url, stdin=token)
        assert (done.returncode, done.stdout) == (2, "")
        assert "does not accept this token" in done.stderr
        assert token not in done.stderr
    done = dtrain("login", closed.url)
    assert done.stderr == "dtrain: No token was given; type it when asked, or pipe it in.\n"
    assert dtrain("login", closed.url, stdin="tökén").returncode == 2
    assert not (tmp_path / "configuration").exists()


def test_what_is_kept_is_for_the_owner_and_for_one_server(
    closed: RunningServer, dtrain: Dtrain, tmp_path: Path
) -> None:
    dtrain("login", closed.url, stdin=TOKEN)
    file = tmp_path / "configuration" / "dtrain" / "login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with peer() as other:
        other.on("/api/workers", lambda exchange: exchange.json({"workers": []}))
        assert dtrain("workers", url=other.url).returncode == 0
        assert dtrain("--server", other.url, "workers").returncode == 0
        assert dtrain("login", other.url).returncode == 0
        assert all("authorization" not in exchange.headers for exchange in other.asked)
        assert dtrain("workers").returncode == 0
        assert len(other.asked) == 4
    assert dtrain("login", closed.url).returncode == 0
    assert dtrain("jobs", "--json").returncode == 0


def test_login_says_where_no_token_is_wanted(tmp_path: Path, dtrain: Dtrain) -> None:
    server = start_server(tmp_path / "home")
    done = dtrain("login", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{server.url} wants no token of this machine; commands go there now.\n"
    assert dtrain("jobs", "--json").stdout.strip() == "[]"


def test_login_says_why_a_server_cannot_be_asked(dtrain: Dtrain) -> None:
    done = dtrain("login", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert done.stderr.startswith("dtrain: No server answers at ")
    assert dtrain("login", "localhost:5000").returncode == 2


def test_login_warns_where_the_token_can_be_overheard_or_something_goes_before_it(
    tmp_path: Path, dtrain: Dtrain
) -> None:
    wide = start_server(tmp_path / "home", DTRAIN_HOST="0.0.0.0", DTRAIN_ACCESS_TOKEN=TOKEN)
    done = dtrain("login", address_of(wide), stdin=TOKEN, DTRAIN_TOKEN="other")
    assert done.returncode == 0
    first, second = done.stderr.splitlines()
    assert re.fullmatch(r"dtrain: Everyone on the way to \S+ can read the token, .*", first)
    assert second == "dtrain: DTRAIN_TOKEN is set here and goes before what is kept; unset it."


def test_login_with_a_ca_of_ones_own_is_kept_with_it(tmp_path: Path, dtrain: Dtrain) -> None:
    authority = Authority(tmp_path / "pki")
    server = SecureServer(tmp_path / "home", authority, DTRAIN_ACCESS_TOKEN=TOKEN)
    unknown = dtrain("login", server.url, stdin=TOKEN)
    assert unknown.returncode == 2
    assert "DTRAIN_CA_FILE" in unknown.stderr
    options = {"folder": tmp_path, "stdin": TOKEN}
    assert dtrain("login", "--ca-file", "pki/ca.pem", server.url, **options).returncode == 0
    assert dtrain("jobs", "--json").returncode == 0
    assert dtrain("logout", server.url).returncode == 0
    assert dtrain("jobs", url=server.url, DTRAIN_CA_FILE=str(server.ca)).returncode == 2
    by_variable = {"DTRAIN_CA_FILE": str(server.ca), "DTRAIN_TOKEN": TOKEN}
    assert dtrain("jobs", "--json", url=server.url, **by_variable).returncode == 0


WAITS = """\
import sys, time
from pathlib import Path
print("begun", flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("ended")
"""


def test_rotation_in_the_middle_of_a_job(tmp_path: Path, dtrain: Dtrain) -> None:
    home = tmp_path / "home"
    server = start_server(home, WORKER_SHARED_TOKEN="", DTRAIN_HOST="0.0.0.0")
    kept = json.loads((home / "data" / "secrets.json").read_text())
    server.token, access = kept["WORKER_SHARED_TOKEN"], kept["DTRAIN_ACCESS_TOKEN"]
    worker = start_worker(tmp_path / "worker", server)
    client = Client(server.url, access)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "main.py").write_text(WAITS)
    go_on = tmp_path / "go on"
    job = client.submit(tmp_path / "job", args=[str(go_on)])
    wait_for(lambda: b"begun" in log_of(client, job.id), "the job to begin")

    done = dtrain("token", "rotate", "--now", home)
    assert done.returncode == 0, done.stderr
    new = json.loads((home / "data" / "secrets.json").read_text())
    assert new["SECRET_KEY"] == kept["SECRET_KEY"]
    assert f"DTRAIN_WORKER_TOKEN={new['WORKER_SHARED_TOKEN']} python agent.py\n" in done.stdout
    assert f": {new['DTRAIN_ACCESS_TOKEN']}\n" in done.stdout
    assert done.stdout.endswith("The old ones hold no longer.\n")
    with pytest.raises(Unauthorized):
        client.jobs.get(job.id)
    late = start_worker(tmp_path / "late", server, name="late")
    assert late.process.wait(PATIENCE) == 2
    assert "refuses the worker's token" in late.text()

    go_on.touch()
    client = Client(server.url, new["DTRAIN_ACCESS_TOKEN"])
    wait_for(lambda: client.jobs.get(job.id).status.final, "the job to end")
    ended = client.jobs.get(job.id)
    assert (ended.status, ended.attempt) == ("completed", 1)
    assert log_of(client, job.id) == b"begun\nended\n"
    worker.restart()  # with the old shared token in its config.json
    wait_for(lambda: worker.text().count("Joined") == 2, "the worker to come back")
    assert [found.name for found in client.workers.list()] == ["worker-1"]
    assert "DTRAIN_ACCESS_TOKEN is a new one now" in server.text()
    assert new["DTRAIN_ACCESS_TOKEN"] not in server.text()


def test_tokens_are_shown_with_what_to_do_with_them(tmp_path: Path, dtrain: Dtrain) -> None:
    home = tmp_path / "home"
    start_server(home, WORKER_SHARED_TOKEN="", DTRAIN_HOST="0.0.0.0")
    before = (home / "data" / "secrets.json").read_bytes()
    kept = json.loads(before)
    wide = {"DTRAIN_HOST": "0.0.0.0", "DTRAIN_PUBLIC_URL": "https://dtrain.example"}
    for arguments, folder in [(("token", "show", home), None), (("token", "show"), home)]:
        done = dtrain(*arguments, folder=folder, **wide)
        assert done.returncode == 0, done.stderr
        variables = "DTRAIN_SERVER_URL=https://dtrain.example DTRAIN_WORKER_TOKEN="
        assert f"    {variables}{kept['WORKER_SHARED_TOKEN']} python agent.py\n" in done.stdout
        assert "dtrain login https://dtrain.example\n" in done.stdout
        assert f": {kept['DTRAIN_ACCESS_TOKEN']}\n" in done.stdout
    assert (home / "data" / "secrets.json").read_bytes() == before


def test_rotation_of_one_token_leaves_the_other(tmp_path: Path, dtrain: Dtrain) -> None:
    home = tmp_path / "home"
    home.mkdir()
    load(home, {})
    before = read_kept(home / "data")
    done = dtrain("token", "rotate", home, "--worker")
    after = read_kept(home / "data")
    assert after.secrets["DTRAIN_ACCESS_TOKEN"] == before.secrets["DTRAIN_ACCESS_TOKEN"]
    assert after.secrets["WORKER_SHARED_TOKEN"] != before.secrets["WORKER_SHARED_TOKEN"]
    assert [old.secret for old in after.old["WORKER_SHARED_TOKEN"]] == [
        before.secrets["WORKER_SHARED_TOKEN"]
    ]
    assert "login page" not in done.stdout
    assert re.search(r"The old ones hold until \d{4}-\d\d-\d\d \d\d:\d\d; --now", done.stdout)


def test_token_that_is_set_elsewhere_is_not_rotated(tmp_path: Path, dtrain: Dtrain) -> None:
    home = tmp_path / "home"
    home.mkdir()
    load(home, {})
    before = (home / "data" / "secrets.json").read_bytes()

    def refusal(*options: str, **env: str) -> str:
        done = dtrain("token", "rotate", home, *options, **env)
        assert (done.returncode, done.stdout) == (2, "")
        assert (home / "data" / "secrets.json").read_bytes() == before
        return done.stderr

    (home / "config.py").write_text('WORKER_SHARED_TOKEN = "your-worker-token"\n')
    assert refusal() == (
        "dtrain: WORKER_SHARED_TOKEN is set in config.py or in the environment of the server, so it"
        " can only be changed there (--access changes the other one).\n"
    )
    assert "DTRAIN_ACCESS_TOKEN is set" in refusal("--access", DTRAIN_ACCESS_TOKEN=TOKEN)
    # What only the server's environment says is known from its last start.
    (home / "config.py").unlink()
    load(home, {"WORKER_SHARED_TOKEN": "your-worker-token"})
    before = (home / "data" / "secrets.json").read_bytes()
    assert "WORKER_SHARED_TOKEN is set" in refusal("--worker")
    assert "can only be known there" in dtrain("token", "show", home).stdout


def test_tokens_of_a_folder_where_no_server_has_run(tmp_path: Path, dtrain: Dtrain) -> None:
    for command in ("show", "rotate"):
        done = dtrain("token", command, tmp_path)
        assert done.returncode == 2
        assert re.fullmatch(r"dtrain: No server has run in \S+ yet; .*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def log_of(client: Client, job_id: int) -> bytes:
    log = io.BytesIO()
    client.jobs.download_log(job_id, log)
    return log.getvalue()


def address_of(server: RunningServer) -> str:
    """By which the server says that it is reached."""
    said = re.compile(r"DTrain serves at (\S+) ")
    wait_for(lambda: said.search(server.text()), "the announcement")
    return said.findall(server.text())[0]
