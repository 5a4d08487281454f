from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import start_in_terminal
from support.fake_server import FakeServer, drops, fake_server
from support.processes import wait_for
from support.terminal import InTerminal

HELLO = {"main.py": "print('hello')"}
PROMPT = "[a]ccept, [d]ecline"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path, server: FakeServer) -> Iterator[InTerminal]:
    agent = start_in_terminal(tmp_path / "worker", server, poll_interval=0.5)
    server.wait(lambda: server.polls, "a poll")
    yield agent
    agent.stop()  # before its server goes, which it would wait for


def offer(server: FakeServer, **spec: object) -> int:
    job = server.submit(HELLO, **spec)
    server.offer(job)
    return job


def wait_for_prompts(agent: InTerminal, number: int) -> None:
    wait_for(lambda: agent.screen().count(PROMPT) >= number, 20, f"{number} prompts")


def test_owner_sees_who_wants_what_and_accepts(server: FakeServer, agent: InTerminal) -> None:
    job = offer(
        server,
        name="My Training Job",
        args=["--lr", "0.1", "two words"],
        memory_gb=4,
        gpus=2,
        time_limit="2h",
    )
    shown = agent.wait_for_text(PROMPT)
    for words in (
        "Job 1: My Training Job",
        "alice",
        "main.py --lr 0.1 'two words'",
        "4 GB of memory, 2 GPUs",
        "2 h",
        "in 1 file",
        server.offered[0].bundle.sha256,
    ):
        assert words in shown
    server.wait(lambda: server.polls[-1].offers == [job], "the agent to say what is shown")
    assert server.polls[-1].asks
    agent.type("a\n")
    attempt = server.wait_until_ended(job)
    assert attempt.secret == server.replies[0].secret


@pytest.mark.parametrize("word", ["accept", "Y", " yes "])
def test_words_that_accept(word: str, server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type(f"{word}\n")
    server.wait(lambda: server.replies, "the answer")
    assert server.replies[0].accept


@pytest.mark.parametrize("word", ["d", "decline", "N", "no"])
def test_words_that_decline(word: str, server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type(f"{word}\n")
    server.wait(lambda: server.replies, "the answer")
    assert not server.replies[0].accept
    server.wait(lambda: server.polls[-1].offers == [], "the offer to be gone")
    assert server.attempts == {}


def test_anything_else_asks_again(server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("\n")
    wait_for_prompts(agent, 2)
    agent.type("sure\n")
    wait_for_prompts(agent, 3)
    assert server.replies == []


def test_details_show_all_that_was_said(server: FakeServer, agent: InTerminal) -> None:
    offer(server, env={"SEED": "7"}, tags=["nightly"], max_retries=3)
    agent.wait_for_text(PROMPT)
    agent.type("?\n")
    shown = agent.wait_for_text("max_retries")
    assert "SEED=7" in shown
    assert "nightly" in shown
    wait_for_prompts(agent, 2)
    assert server.replies == []


def test_offer_that_is_put_off_lets_the_next_one_pass(
    server: FakeServer, agent: InTerminal
) -> None:
    first, second = offer(server, name="first"), offer(server, name="second")
    agent.wait_for_text("Job 1: first")
    agent.wait_for_text(PROMPT)
    agent.type("l\n")
    agent.wait_for_text("Job 2: second")
    wait_for_prompts(agent, 2)
    agent.type("a\n")
    server.wait_until_ended(second)
    server.wait(lambda: server.polls[-1].offers == [first], "the other to be kept")


def test_withdrawn_offer_gives_way_and_its_answer_goes_to_nobody(
    server: FakeServer, agent: InTerminal
) -> None:
    first, second = offer(server, name="first"), offer(server, name="second")
    agent.wait_for_text(PROMPT)
    agent.type("a")  # typed, but not sent yet
    server.withdraw(first)
    agent.wait_for_text("Job 1 is no longer offered")
    agent.wait_for_text("Job 2: second")
    wait_for_prompts(agent, 2)
    agent.type("\n")
    wait_for_prompts(agent, 3)
    assert server.replies == []
    agent.type("d\n")
    server.wait(lambda: server.replies, "the answer")
    assert [offered.job_id for offered in server.offered] == []
    assert second


def test_offer_that_is_gone_when_it_is_accepted_is_said_to_be(
    server: FakeServer, agent: InTerminal
) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    with server.changed:
        server.waiting.clear()
    agent.type("a\n")
    agent.wait_for_text("It is withdrawn.")
    assert server.attempts == {}


def test_answer_is_repeated_until_it_gets_through(server: FakeServer, agent: InTerminal) -> None:
    server.on("/offers/", drops, drops)
    job = offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("a\n")
    server.wait_until_ended(job)


def test_prompt_keeps_neither_polls_nor_jobs_waiting(server: FakeServer, agent: InTerminal) -> None:
    first = offer(server, name="first")
    agent.wait_for_text(PROMPT)
    agent.type("a\n")
    server.wait_until_claimed(first)
    offer(server, name="second")
    wait_for_prompts(agent, 2)
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 3, "polls to go on")
    server.wait_until_ended(first)
    agent.wait_for_text("Job 1 (first) completed")
    assert agent.screen().rstrip().endswith("[l]ater:")


def test_escape_sequences_never_reach_the_terminal(server: FakeServer, agent: InTerminal) -> None:
    offer(server, args=["\x1b[2J\x1b]0;title\x07", "\u202eexe.txt"])
    agent.wait_for_text(PROMPT)
    assert "\x1b[2J" not in agent.text()
    assert "\x07" not in agent.text()
    assert "\u202e" not in agent.text()
    assert "\\x1b[2J" in agent.screen()


def test_end_of_input_says_what_to_set_and_takes_no_more(
    server: FakeServer, agent: InTerminal
) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("\x04")
    agent.wait_for_text("DTRAIN_AUTO_ACCEPT_JOBS=true")
    server.wait(lambda: server.polls[-1].draining, "the agent to say that it takes nothing")
    assert agent.alive


def test_interrupt_at_the_prompt_ends_the_agent(server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("\x03")
    assert agent.process.wait(10) == 0
    assert "Traceback" not in agent.text()


def test_terminal_that_is_closed_ends_the_agent_in_order(
    server: FakeServer, agent: InTerminal
) -> None:
    """What a closed window sends."""
    os.kill(agent.pid, signal.SIGHUP)
    assert agent.process.wait(10) == 0
    assert [leave.session for leave in server.left] == [1]
