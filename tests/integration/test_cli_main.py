from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from support.command import COMMAND, dtrain, environment
from support.http_peer import Exchange, Peer, peer
from support.messages import job
from support.processes import free_port, start_server
from support.terminal import InTerminal

import dtrain as package
from dtrain.cli.main import dtrain as group


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer() as running:
        yield running


def jobs(*found: object) -> bytes:
    return json.dumps({"jobs": found, "next": None}).encode()


# What it is and how it is asked.


def test_version_is_the_packages() -> None:
    done = dtrain("--version")
    assert (done.returncode, done.stdout) == (0, f"dtrain {package.__version__}\n")


def test_help_lists_every_command_and_each_has_its_own() -> None:
    done = dtrain("--help")
    assert done.returncode == 0
    for name in group.list_commands(click.Context(group)):
        assert f"\n  {name} " in done.stdout
        one = dtrain(name, "--help")
        assert one.returncode == 0, one.stderr
        assert f"Usage: dtrain {name}" in one.stdout


def test_installed_command_is_the_same_as_the_module() -> None:
    script = Path(sys.executable).with_name("dtrain")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout == dtrain("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"urllib3", "rich", "flask", "sqlalchemy", "granian", "psutil"}),
        (["submit", "--help"], {"difflib", "rich", "flask", "sqlalchemy", "granian", "psutil"}),
        (["jobs", "--help"], {"flask", "sqlalchemy", "granian", "psutil"}),
    ],
)
def test_commands_import_only_what_they_need(arguments: list[str], absent: set[str]) -> None:
    code = (
        "import sys\nfrom dtrain.cli.main import dtrain\n"
        f"try: dtrain({arguments!r})\nexcept SystemExit: pass\n"
        f"print(sorted(sys.modules.keys() & {absent!r}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_handing_in_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    command = ["--server", f"http://127.0.0.1:{free_port()}", "submit", str(tmp_path)]
    absent = {"rich", "urllib.request", "yaml"}
    code = (
        "import sys\nfrom dtrain.cli.main import dtrain\n"
        f"try: dtrain({command!r})\nexcept SystemExit: pass\n"
        f"print(sorted(sys.modules.keys() & {absent!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "No server answers" in done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["show"],
        ["show", "x"],
        ["show", "0"],
        ["show", str(2**70)],
        ["jobs", "--limit", "-1"],
        ["jobs", "--status", "done"],
        ["cancel"],
        ["submit", ".", "--follow", "--json"],
        ["retry", "1", "--follow", "--json"],
        ["clone", "1", "--follow", "--json"],
        ["metrics", "1", "--csv", "--json"],
        ["logs", "1", "--json", "--tail", "1"],
        ["drain"],
        ["completion", "tcsh"],
        ["wait", "1", "--timeout", "-1"],
        ["worker", "/nowhere"],
    ],
)
def test_wrong_usage_is_named_and_exits_2(arguments: list[str]) -> None:
    done = dtrain(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sbumit", "."], "There is no command 'sbumit'. Did you mean submit?"),
        (["job"], "There is no command 'job'. Did you mean jobs?"),
        (["jobs", "--statsu", "failed"], "'--status'"),
        (["submit", ".", "--flow"], "'--follow'"),
        (["\x1b[2J"], "There is no command '\\x1b[2J'.\n"),
    ],
)
def test_misspelt_names_are_answered_with_what_may_be_meant(
    arguments: list[str], meant: str
) -> None:
    done = dtrain(*arguments)
    assert done.returncode == 2
    assert meant in done.stderr
    assert "\x1b" not in done.stderr


def test_server_and_token_come_from_either_place_the_nearer_first(server: Peer) -> None:
    server.on("/api/jobs", lambda exchange: exchange.reply(body=jobs()))
    away = "http://127.0.0.1:1"

    def sent(*arguments: str, url: str = away) -> str:
        done = dtrain(*arguments, url=url, DTRAIN_TOKEN="environment")
        assert done.returncode == 0, done.stderr
        return server.asked[-1].headers["authorization"]

    assert sent("jobs", url=server.url) == "Bearer environment"
    assert sent("--server", server.url, "--token", "before", "jobs") == "Bearer before"
    assert sent("jobs", "--server", server.url, "--token", "behind") == "Bearer behind"
    assert sent("--server", away, "jobs", "--server", server.url) == "Bearer environment"


# Errors.


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "No server answers at http://127.0.0.1:1 (connection refused)"),
        ("localhost:5000", "The server's address 'localhost:5000' is not of the form"),
        ("http://nowhere.invalid", "The host name in http://nowhere.invalid is not known"),
    ],
)
def test_server_that_cannot_be_reached_is_one_sentence(url: str, said: str) -> None:
    for arguments in (["jobs"], ["show", "1"], ["logs", "1"], ["logs", "-f", "1"], ["workers"]):
        done = dtrain(*arguments, url=url)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"dtrain: {said}")
        assert done.stderr.count("\n") == 1


def test_refusal_is_shown_without_what_could_act_on_the_terminal(server: Peer) -> None:
    server.on(
        "/api/jobs/1", lambda exchange: exchange.problem(404, "not_found", "No\x1b[2J job\n1.")
    )
    done = dtrain("show", "1", url=server.url)
    assert (done.returncode, done.stderr) == (2, "dtrain: No\ufffd[2J job 1.\n")


def test_hostile_names_cannot_act_on_the_terminal(server: Peer, tmp_path: Path) -> None:
    evil = "evil\x1b]0;title\x07\x9b31m\u202e[bold]x[/bold] :smile:"
    server.on(
        "/api/jobs",
        lambda exchange: exchange.reply(body=jobs(job(name=evil, worker=f"{evil}\n\r"))),
    )
    terminal = InTerminal("jobs", [*COMMAND, "jobs"], tmp_path, environment(server.url))
    assert terminal.ended() == 0
    terminal.wait_for_text("evil")
    shown = terminal.output.read_bytes()
    assert b"\x1b]0;" not in shown
    assert b"\x07" not in shown
    assert "\u202e" not in shown.decode()
    assert "[bold]x[/bold] :smile:" in shown.decode()


def test_names_that_the_terminal_cannot_show_are_no_error(server: Peer) -> None:
    server.on("/api/jobs", lambda exchange: exchange.reply(body=jobs(job(name="模型 é"))))
    done = dtrain("jobs", url=server.url, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert "?? " in done.stdout


def test_gateway_in_place_of_the_server_is_named(server: Peer) -> None:
    server.on("/api/jobs", lambda exchange: exchange.reply(502, b"<html>x</html>", "text/html"))
    done = dtrain("jobs", url=server.url)
    assert done.returncode == 2
    assert "502 Bad Gateway" in done.stderr
    assert "<html>" not in done.stderr


def test_fault_of_our_own_is_one_sentence_unless_it_is_looked_for(
    server: Peer, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from dtrain.client.client import Client\n"
        "Client.page = property(lambda self: 1 / 0)\n"  # breaks whatever shows an address
    )
    server.on("/api/jobs/1", lambda exchange: exchange.json(job()))
    where = str(tmp_path)
    done = dtrain("open", "1", url=server.url, PYTHONPATH=where)
    assert done.returncode == 2
    assert done.stderr.startswith("dtrain: A fault in DTrain itself (ZeroDivisionError: ")
    assert done.stderr.count("\n") == 1
    shown = dtrain("open", "1", url=server.url, PYTHONPATH=where, DTRAIN_DEBUG="true")
    assert "Traceback" in shown.stderr


def test_broken_off_log_is_no_success(server: Peer) -> None:
    def half(exchange: Exchange) -> None:
        exchange.begin(200, "text/plain", Content_Length="1000")
        exchange.raw(b"half")

    server.on("/api/jobs/1/logs", half)
    done = dtrain("logs", "1", url=server.url)
    assert (done.returncode, done.stdout) == (2, "half")
    assert "broke off" in done.stderr


def test_unwritable_output_is_one_sentence(server: Peer) -> None:
    server.on(
        "/api/jobs/1/logs", lambda exchange: exchange.reply(200, b"x" * 100_000, "text/plain")
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "logs", "1"],
            env=environment(server.url),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == b"dtrain: No space left on device\n"


def test_server_without_its_packages_names_the_line_that_installs_them(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['flask'] = None\n"
        "from dtrain.cli.main import dtrain\ndtrain(['server'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'dtrain[server]'" in done.stderr
    assert "Traceback" not in done.stderr


# A server that is open to others wants its token.


def test_server_that_wants_a_token_says_so_and_takes_it(tmp_path: Path) -> None:
    running = start_server(tmp_path / "server", DTRAIN_HOST="0.0.0.0")
    secrets = json.loads((tmp_path / "server" / "data" / "secrets.json").read_text())
    for wrong in ({}, {"DTRAIN_TOKEN": "wrong"}):
        refused = dtrain("jobs", url=running.url, **wrong)
        assert refused.returncode == 2
        assert refused.stderr.startswith("dtrain: ")
        assert "--token" in refused.stderr
        assert "wrong" not in refused.stderr
    done = dtrain("jobs", "--json", url=running.url, DTRAIN_TOKEN=secrets["DTRAIN_ACCESS_TOKEN"])
    assert (done.returncode, done.stdout) == (0, "[]\n")
