"""What shells offer, and that they are never kept waiting or spoken to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import COMMAND, dtrain, environment
from support.http_peer import Exchange, Peer, peer
from support.messages import job, worker
from support.processes import PATIENCE

# Calls the function that completes, as bash does when Tab is pressed the second time.
_ASK = """
eval "$(dtrain completion bash)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=$TYPE
_dtrain_completion dtrain "${COMP_WORDS[COMP_CWORD]}"
[[ ${#COMPREPLY[@]} == 0 ]] || printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer() as running:
        found = [
            job(id=42, name="the first,\x1b[2J one"),
            job(id=41, name="二", status="failed", reason="user"),
            job(id=7, name="old", status="completed"),
        ]
        page = {"jobs": found, "next": None}
        running.on("/api/jobs", lambda exchange: exchange.json(page))
        workers = [
            worker(id="aaaa1", name="gpu-1", hostname="one"),
            worker(id="aaaa2", name="twin"),
            worker(id="aaaa3", name="twin"),
            worker(id="aaaa4", name="$(touch owned)"),
        ]
        running.on("/api/workers", lambda exchange: exchange.json({"workers": workers}))
        yield running


def offered(url: str, *words: str, listing: bool = False) -> list[str]:
    """What bash offers for the last of the words."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", _ASK, "bash", "dtrain", *words],
        env=environment(url, PATH=path, TYPE="63" if listing else "9", LC_ALL="C.UTF-8"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_and_options_are_offered(server: Peer) -> None:
    assert offered(server.url, "wo") == ["workers", "worker"]
    assert offered(server.url, "wo", listing=True) == [
        "workers  (List the workers.)",
        "worker  (Run a worker.)",
    ]
    assert offered(server.url, "logs", "--t") == ["--tail", "--token"]
    assert server.asked == []


def test_statuses_are_offered(server: Peer) -> None:
    assert offered(server.url, "jobs", "--status", "c") == ["completed", "cancelled"]


def test_jobs_are_offered_with_their_names_by_what_can_be_done_to_them(server: Peer) -> None:
    assert offered(server.url, "show", "") == ["42", "41", "7"]
    assert offered(server.url, "show", "", listing=True) == [
        "42  (the first,\ufffd[2J one, pending)",
        "41  (二, failed)",
        "7  (old, completed)",
    ]
    assert offered(server.url, "show", "4") == ["42", "41"]
    assert offered(server.url, "cancel", "") == ["42"]
    assert offered(server.url, "retry", "") == ["41", "7"]


def test_workers_are_offered_by_name_or_where_that_could_act_by_id(server: Peer) -> None:
    assert offered(server.url, "drain", "") == ["gpu-1", "aaaa2", "aaaa3", "aaaa4"]
    assert offered(server.url, "jobs", "--worker", "g") == ["gpu-1"]


def test_server_is_the_one_that_the_words_name(server: Peer) -> None:
    away = "http://127.0.0.1:1"
    asked = environment(
        away, COMP_WORDS=f"dtrain --server {server.url} show 7", COMP_CWORD="4",
        _DTRAIN_COMPLETE="zsh_complete",
    )  # fmt: skip
    done = subprocess.run(COMMAND, env=asked, capture_output=True, text=True, check=True)
    assert done.stdout == "plain\n7\nold, completed\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://nowhere.invalid"])
def test_nothing_is_offered_and_nothing_said_where_no_server_is(url: str) -> None:
    assert offered(url, "show", "") == []


@pytest.mark.parametrize(
    "answer",
    [
        lambda exchange: exchange.problem(401, "unauthorized", "No token."),
        lambda exchange: exchange.reply(200, b"<html>", "text/html"),
        Exchange.cut,
    ],
)
def test_nothing_is_offered_and_nothing_said_where_the_server_refuses(
    answer: object, server: Peer
) -> None:
    server.on("/api/jobs", answer)  # type: ignore[arg-type]  # as parametrized
    assert offered(server.url, "show", "") == []


def test_shell_is_not_kept_waiting(server: Peer) -> None:
    server.on("/api/jobs", Exchange.hang)
    assert offered(server.url, "show", "") == []
    asked = environment(
        server.url, COMP_WORDS="dtrain show ", COMP_CWORD="2", _DTRAIN_COMPLETE="bash_complete"
    )
    done = subprocess.run(COMMAND, env=asked, capture_output=True, timeout=PATIENCE, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"", b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_those_of_the_shells(shell: str) -> None:
    done = dtrain("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_DTRAIN_COMPLETE={shell}_complete" in done.stdout
    assert dtrain("completion", "tcsh").returncode == 2
