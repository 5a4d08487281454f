from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import CODE, owner_code, start_agent, write_settings
from support.fake_server import TOKEN, FakeServer, fake_server
from support.processes import PATIENCE, clean_environment, free_port

AGENT = Path(__file__).parents[2] / "worker" / "agent.py"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def refusal(home: Path, **env: str) -> str:
    """What an agent says that refuses to start."""
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(home)],
        env=clean_environment() | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_wrong_token_ends_the_agent(tmp_path: Path, server: FakeServer) -> None:
    write_settings(tmp_path / "worker", server, token="a-wrong-one")
    said = refusal(tmp_path / "worker")
    assert "DTRAIN_WORKER_TOKEN" in said
    assert "a-wrong-one" not in said


def test_worker_of_another_version_says_which_side_to_upgrade(tmp_path: Path) -> None:
    with fake_server() as server:
        server.on("/register", lambda exchange: exchange.problem(426, "version") or True)
        write_settings(tmp_path / "worker", server)
        assert "It is version." in refusal(tmp_path / "worker")


def test_nobody_to_ask_is_said_before_anything_else(tmp_path: Path, server: FakeServer) -> None:
    write_settings(tmp_path / "worker", server, auto_accept_jobs=False, answer_on_page=False)
    said = refusal(tmp_path / "worker")
    assert "auto_accept_jobs" in said
    assert "accept_when" in said
    assert "answer_on_page" in said
    assert "DTRAIN_AUTO_ACCEPT_JOBS" in said
    assert server.requests == []


def test_owner_without_a_terminal_answers_on_the_page(tmp_path: Path, server: FakeServer) -> None:
    home = tmp_path / "worker"
    agent = start_agent(home, server, auto_accept_jobs=False)
    code = owner_code(home)
    agent.wait_for_text(f"/workers/worker-1 with the owner's code {code[:4]}-{code[4:]}")
    job = server.submit({"main.py": "print('hello')"})
    server.offer(job)
    server.wait(lambda: server.polls and server.polls[-1].offers == [job], "the offer to arrive")
    server.answer_on_page(job, code)
    server.wait_until_ended(job)
    agent.stop()
    agent.restart()
    server.wait(lambda: len(server.registered) == 2, "the second session")
    assert owner_code(home) == code


def test_rules_decide_where_nobody_can_be_asked(tmp_path: Path, server: FakeServer) -> None:
    start_agent(
        tmp_path / "worker",
        server,
        {"DTRAIN_ACCEPT_WHEN": '[{"submitter": "al*"}]'},
        auto_accept_jobs=False,
        answer_on_page=False,
    )
    job = server.submit({"main.py": "print('hello')"})
    server.offer(job)
    server.wait_until_ended(job)


def test_missing_settings_are_asked_for(tmp_path: Path) -> None:
    assert "config.example.json" in refusal(tmp_path / "worker")


def test_misspelt_setting_is_named(tmp_path: Path, server: FakeServer) -> None:
    write_settings(tmp_path / "worker", server, max_concurent_jobs=2)
    assert "did you mean max_concurrent_jobs?" in refusal(tmp_path / "worker")


@pytest.mark.parametrize(
    ("setting", "value"), [("executor", "venvv"), ("python", "no-such-python"), ("python", "false")]
)
def test_setting_that_cannot_be_used_is_named(
    tmp_path: Path, server: FakeServer, setting: str, value: str
) -> None:
    write_settings(tmp_path / "worker", server, **{setting: value})
    said = refusal(tmp_path / "worker")
    assert setting in said
    assert value in said


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, server: FakeServer) -> None:
    (tmp_path / "file").write_text("")
    write_settings(tmp_path / "worker", server, work_dir=str(tmp_path / "file"))
    assert str(tmp_path / "file") in refusal(tmp_path / "worker")


def test_second_agent_of_a_name_is_refused(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "the first agent")
    assert "DTRAIN_WORKER_NAME" in refusal(tmp_path / "worker")
    assert len(server.registered) == 1


def test_two_names_work_side_by_side_in_one_folder(tmp_path: Path, server: FakeServer) -> None:
    for name in ("one", "two"):
        start_agent(tmp_path / "worker", server, {"DTRAIN_WORKER_NAME": name})
    server.wait(lambda: len(server.registered) == 2, "both")
    assert sorted(register.name for register in server.registered) == ["one", "two"]
    assert {path.name for path in (tmp_path / "worker" / "data").iterdir()} == {"one", "two"}


def test_server_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    agent = start_agent(tmp_path / "worker", f"http://127.0.0.1:{port}")
    agent.wait_for_text(f"No server answers at http://127.0.0.1:{port}")
    with fake_server(port) as server:
        server.wait(lambda: server.polls, "the agent")
        assert agent.text().count("No server answers") == 1
        agent.stop()


@pytest.mark.parametrize("debug", ["true", ""])
def test_requests_are_shown_for_debugging_only(
    tmp_path: Path, server: FakeServer, debug: str
) -> None:
    agent = start_agent(tmp_path / "worker", server, {"DTRAIN_DEBUG": debug}, poll_interval=0.2)
    server.wait(lambda: len(server.polls) > 2, "a few polls")
    agent.wait_for_text("Joined")
    agent.stop()
    assert ("POST /api/worker/poll -> 200" in agent.text()) == bool(debug)
    assert TOKEN not in agent.text()
    assert not any(credential in agent.text() for credential in server.credentials)


def test_second_enrolment_uses_the_workers_own_credential(
    tmp_path: Path, server: FakeServer
) -> None:
    agent = start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "a poll")
    agent.stop()
    # The shared token may change meanwhile.
    write_settings(tmp_path / "worker", server, token="another-one")
    agent.restart()
    server.wait(lambda: len(server.registered) == 2, "the second session")
    assert server.registered[1].worker_id == "worker-1"


def test_entry_of_the_run_folder_is_the_agent() -> None:
    assert "from dtrain.worker.agent import main" in AGENT.read_text()
