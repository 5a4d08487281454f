"""The owner at the terminal of a real agent, key by key."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agents import CODE, owner_code, start_in_terminal, write_settings
from support.fake_server import FakeServer, drops, fake_server
from support.processes import clean_environment, wait_for
from support.terminal import InTerminal

HELLO = {"main.py": "print('hello')"}
PROMPT = "[a]ccept, [d]ecline"
REASON = "Reason (Enter for none):"
HELP = "a: accept; d: decline"
UP = "\x1b[A"
"""What the arrow sends: there is an A in it."""


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
    wait_for(lambda: agent.screen().count(PROMPT) >= number, f"{number} prompts")


def last_line(agent: InTerminal) -> str:
    """What stands on the line of the cursor."""
    return agent.screen().rpartition("\n")[2].rpartition("\r")[2]


def test_owner_sees_who_wants_what_and_accepts(server: FakeServer, agent: InTerminal) -> None:
    job = offer(
        server,
        name="My Training Job",
        args=["--lr", "0.1", "two words"],
        memory_gb=4,
        gpus=2,
        time_limit="2h",
        tags=["nightly", "digits"],
    )
    shown = agent.wait_for_text(PROMPT)
    for words in (
        "Job 1: My Training Job",
        "alice, as they say",
        "main.py --lr 0.1 'two words'",
        "4 GB of memory, 2 GPUs",
        "2 h",
        "nightly, digits",
        "in 1 file",
        server.offered[0].bundle.sha256,
    ):
        assert words in shown
    server.wait(lambda: server.polls[-1].offers == [job], "the agent to say what is shown")
    assert server.polls[-1].asks
    agent.type("a\n")
    attempt = server.wait_until_ended(job)
    assert attempt.secret == server.replies[0].secret


def test_card_of_a_retry_says_of_what(server: FakeServer, agent: InTerminal) -> None:
    job = server.submit(HELLO)
    server.offer(job, retry_of=17)
    assert "job 17" in agent.wait_for_text(PROMPT)


@pytest.mark.parametrize(
    "keys", ["a", "A", "y", "a\n", "accept\n", "Y\n", " yes \n", "dx\x7f\x7fa"]
)
def test_keys_and_words_that_accept(keys: str, server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type(keys)
    server.wait(lambda: server.replies, "the answer")
    assert server.replies[0].accept
    wait_for(agent.takes_lines, "the terminal to be given back")


@pytest.mark.parametrize("keys", ["d", "n", "decline\n", "N\n"])
def test_keys_and_words_that_decline_ask_for_a_reason(
    keys: str, server: FakeServer, agent: InTerminal
) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type(keys)
    agent.wait_for_text(REASON)
    assert server.replies == []
    agent.type("too big: 10 GB für mich\n")
    server.wait(lambda: server.replies, "the answer")
    assert (server.replies[0].accept, server.replies[0].reason) == (
        False,
        "too big: 10 GB für mich",
    )
    agent.wait_for_text("Job 1 is declined.")
    server.wait(lambda: server.polls[-1].offers == [], "the offer to be gone")
    assert server.attempts == {}


def test_reason_is_given_in_one_line_or_not_at_all(server: FakeServer, agent: InTerminal) -> None:
    offer(server), offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("decline too big for me\n")
    server.wait(lambda: server.replies, "the answer")
    assert server.replies[0].reason == "too big for me"
    wait_for_prompts(agent, 2)
    agent.type("d\n\n")
    server.wait(lambda: len(server.replies) == 2, "the other answer")
    assert (server.replies[1].accept, server.replies[1].reason) == (False, None)


def test_escape_leads_back_from_the_reason(server: FakeServer, agent: InTerminal) -> None:
    job = offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("d")
    agent.wait_for_text(REASON)
    agent.type("a mista\x1b")
    wait_for(lambda: PROMPT in last_line(agent), "the question again")
    assert server.replies == []
    agent.type("a")
    server.wait_until_claimed(job)


def test_whole_word_is_no_answer_before_its_end(server: FakeServer, agent: InTerminal) -> None:
    """It begins with a letter that would act alone, and what follows is no answer to the next."""
    offer(server, name="first"), offer(server, name="second")
    agent.wait_for_text(PROMPT)
    agent.type("accept")
    wait_for(lambda: last_line(agent).endswith("details: accept"), "the word to be shown")
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 2, "time to pass")
    assert server.replies == []
    agent.type("\n")
    agent.wait_for_text("Job 2: second")
    wait_for_prompts(agent, 2)
    assert len(server.replies) == 1


def test_anything_else_asks_again_with_a_line_of_help(
    server: FakeServer, agent: InTerminal
) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("\n")
    wait_for_prompts(agent, 2)
    assert HELP not in agent.screen()
    agent.type("sure\n")
    agent.wait_for_text(HELP)
    agent.type("x")
    wait_for(lambda: agent.screen().count(HELP) == 2, "help with an unknown key")
    agent.type("later soon\n")
    agent.wait_for_text("later takes a length of time")
    wait_for_prompts(agent, 5)
    assert server.replies == []


@pytest.mark.parametrize("keys", [UP, UP + "\x1bOP\x1b[15~", "\x1ba"])
def test_keys_without_a_sign_are_no_answer(
    keys: str, server: FakeServer, agent: InTerminal
) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type(keys)
    agent.type("?")
    agent.wait_for_text("max_retries")
    wait_for_prompts(agent, 2)
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 2, "time to pass")
    assert server.replies == []


def test_pasted_text_is_no_answer(server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("\x1b[200~a\naccept\n\x1b[201~")
    agent.wait_for_text("What is pasted is no answer")
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 2, "time to pass")
    assert server.replies == []
    assert last_line(agent).endswith("details: ")


def test_reason_can_be_pasted(server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("d")
    agent.wait_for_text(REASON)
    agent.type("\x1b[200~see the\nwiki\x1b[201~, please\n")
    server.wait(lambda: server.replies, "the answer")
    assert server.replies[0].reason == "see the wiki, please"


def test_what_was_typed_ahead_answers_nothing(server: FakeServer, agent: InTerminal) -> None:
    agent.type("a\naccept\ny")
    offer(server)
    agent.wait_for_text("Job 1: a job")
    agent.type("a\n")  # the card is in sight, the question is not
    agent.wait_for_text(PROMPT)
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 3, "time to pass")
    assert server.replies == []
    assert last_line(agent).endswith("details: ")


def test_details_show_all_that_was_said(server: FakeServer, agent: InTerminal) -> None:
    offer(server, env={"SEED": "7"}, tags=["nightly"], max_retries=3)
    agent.wait_for_text(PROMPT)
    agent.type("?")
    shown = agent.wait_for_text("max_retries")
    assert "SEED=7" in shown
    wait_for_prompts(agent, 2)
    agent.type("details\n")
    wait_for(lambda: agent.screen().count("max_retries") == 2, "the details once more")
    assert server.replies == []


def test_files_are_shown_page_by_page(server: FakeServer, agent: InTerminal) -> None:
    files = {"main.py": "print()"} | {f"data/{number:05}": "x" * number for number in range(10_000)}
    job = server.submit(files)
    server.offer(job)
    agent.wait_for_text(PROMPT)
    before = len(agent.screen())
    agent.type("f")
    shown = agent.wait_for_text("Files 1 to 20 of 10,001")[before:]
    wait_for_prompts(agent, 2)
    assert "main.py" in shown
    assert "data/00018" in agent.screen()
    assert "data/00019" not in agent.screen()
    assert len(agent.screen()) - before < 2000
    agent.type("files\n")
    agent.wait_for_text("Files 21 to 40 of 10,001")
    agent.wait_for_text("data/00038")
    assert server.replies == []


def test_files_that_cannot_be_had_are_said_to_be(server: FakeServer, agent: InTerminal) -> None:
    server.on("/files", drops)
    job = offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("f")
    agent.wait_for_text("broke off")
    agent.type("a")
    server.wait_until_claimed(job)


def test_offer_that_is_put_off_lets_the_next_one_pass(
    server: FakeServer, agent: InTerminal
) -> None:
    first, second = offer(server, name="first"), offer(server, name="second")
    agent.wait_for_text("Job 1: first")
    agent.wait_for_text(f"(1 of 2)? {PROMPT}")
    agent.type("l")
    agent.wait_for_text("asked again in 5 min")
    agent.wait_for_text("Job 2: second")
    agent.wait_for_text(f"here? {PROMPT}")
    agent.type("a")
    server.wait_until_ended(second)
    server.wait(lambda: server.polls[-1].offers == [first], "the other to be kept")


def test_offer_comes_back_when_it_was_to(server: FakeServer, agent: InTerminal) -> None:
    job = offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("later 1s\n")
    agent.wait_for_text("asked again in 1 s")
    wait_for(lambda: agent.screen().count("Job 1: a job") == 2, "the card again")
    wait_for_prompts(agent, 2)
    agent.type("l")
    agent.wait_for_text("asked again in 5 min")
    server.wait(lambda: server.polls[-1].offers == [job], "the offer to be kept")


def test_number_of_offers_follows(server: FakeServer, agent: InTerminal) -> None:
    offer(server), offer(server)
    agent.wait_for_text("1 of 2")
    third = offer(server)
    agent.wait_for_text("1 of 3")
    server.withdraw(third)
    wait_for(lambda: "1 of 2" in last_line(agent), "the third to be gone")


@pytest.mark.parametrize("typed", ["accept", "decline\nbecause of"])
def test_withdrawn_offer_gives_way_and_its_answer_goes_to_nobody(
    typed: str, server: FakeServer, agent: InTerminal
) -> None:
    first, second = offer(server, name="first"), offer(server, name="second")
    agent.wait_for_text(PROMPT)
    agent.type(typed)
    wait_for(lambda: last_line(agent).endswith(typed[-3:]), "what was typed")
    server.withdraw(first)
    agent.wait_for_text("Job 1 is no longer offered")
    agent.type("\n")
    agent.wait_for_text("Job 2: second")
    agent.type("a")
    wait_for(lambda: PROMPT in last_line(agent), "the next question")
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 2, "time to pass")
    assert server.replies == []
    agent.type("d\n\n")
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
    agent.type("a")
    agent.wait_for_text("It is withdrawn.")
    assert server.attempts == {}


def test_answer_is_repeated_until_it_gets_through(server: FakeServer, agent: InTerminal) -> None:
    server.on("/offers/", drops, drops)
    job = offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("a")
    server.wait_until_ended(job)


def test_nothing_starts_but_what_the_owner_saw(server: FakeServer, agent: InTerminal) -> None:
    """A server that gives something else for a yes starts nothing."""
    job = offer(server, name="harmless")
    agent.wait_for_text(PROMPT)
    server.swap(job, {"main.py": "print('harm')"})
    agent.type("a")
    agent.wait_for_text("Job 1 came without its owner's consent")
    server.wait(lambda: server.polls[-1].next_secret != server.replies[0].secret, "a new secret")
    assert server.polls[-1].attempts == []
    assert server.attempt(job).bundle_reads == 0


def test_nothing_starts_without_a_yes(server: FakeServer, agent: InTerminal) -> None:
    """A server that assigns a job to a worker that wants to be asked starts nothing."""
    job = offer(server)
    agent.wait_for_text(PROMPT)
    server.forces_assignments = True
    agent.wait_for_text("Job 1 came without its owner's consent")
    assert server.attempt(job).bundle_reads == 0


def test_prompt_keeps_neither_polls_nor_jobs_waiting(server: FakeServer, agent: InTerminal) -> None:
    first = offer(server, name="first")
    agent.wait_for_text(PROMPT)
    agent.type("a")
    server.wait_until_claimed(first)
    offer(server, name="second")
    wait_for_prompts(agent, 2)
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 3, "polls to go on")
    server.wait_until_ended(first)
    agent.wait_for_text("Job 1 (first) completed")
    wait_for(lambda: last_line(agent).endswith("details: "), "the prompt below")


def test_escape_sequences_never_reach_the_terminal(server: FakeServer, agent: InTerminal) -> None:
    offer(server, args=["\x1b[2J\x1b]0;title\x07", "\u202eexe.txt"])
    agent.wait_for_text(PROMPT)
    assert "\x1b[2J" not in agent.text()
    assert "\x07" not in agent.text()
    assert "\u202e" not in agent.text()
    assert "\\x1b[2J" in agent.screen()


def test_end_of_input_says_what_to_set_and_takes_no_more(
    tmp_path: Path, server: FakeServer
) -> None:
    agent = start_in_terminal(tmp_path, server, poll_interval=0.5, answer_on_page=False)
    offer(server)
    agent.wait_for_text(PROMPT)
    agent.type("\x04")
    agent.wait_for_text("DTRAIN_AUTO_ACCEPT_JOBS=true")
    server.wait(lambda: server.polls[-1].draining, "the agent to say that it takes nothing")
    assert agent.alive
    assert agent.takes_lines()
    agent.stop()


def test_interrupt_at_the_prompt_ends_the_agent(server: FakeServer, agent: InTerminal) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    assert not agent.takes_lines()
    agent.type("\x03")
    assert agent.ended() == 0
    assert "Traceback" not in agent.text()
    assert agent.text().rfind("\x1b[?2004l") > agent.text().rfind("\x1b[?2004h")


def supersede(server: FakeServer, agent: InTerminal) -> None:
    server.supersede()


def terminate(server: FakeServer, agent: InTerminal) -> None:
    os.kill(agent.pid, signal.SIGTERM)


@pytest.mark.parametrize("happens", [supersede, terminate])
def test_terminal_is_given_back_however_the_agent_ends(
    happens: Callable[[FakeServer, InTerminal], None], server: FakeServer, agent: InTerminal
) -> None:
    offer(server)
    agent.wait_for_text(PROMPT)
    assert not agent.takes_lines()
    happens(server, agent)
    agent.ended()
    assert agent.text().rfind("\x1b[?2004l") > agent.text().rfind("\x1b[?2004h")
    assert "Traceback" not in agent.text()


def test_terminal_that_is_closed_ends_the_agent_in_order(
    server: FakeServer, agent: InTerminal
) -> None:
    """What a closed window sends."""
    os.kill(agent.pid, signal.SIGHUP)
    assert agent.ended() == 0
    assert [leave.session for leave in server.left] == [1]


def test_narrow_terminal_shows_all_of_it(tmp_path: Path, server: FakeServer) -> None:
    agent = start_in_terminal(tmp_path, server, columns=40, poll_interval=0.5)
    offer(server, name="a name that is longer than the terminal is wide"), offer(server)
    agent.wait_for_text("Run it (1 of 2)? a, d, l, f, ?:")
    lines = agent.screen().split("\n")
    card = [line for line in lines if line.startswith(("╭", "│", "╰"))]
    assert max(map(len, card)) <= 40
    agent.type("d")
    agent.wait_for_text(REASON)
    agent.type("a reason that goes on and on, beyond the edge")
    wait_for(lambda: last_line(agent).endswith("the edge"), "the end of what is typed")
    assert len(last_line(agent)) < 40
    agent.type("\n")
    server.wait(lambda: server.replies, "the answer")
    assert server.replies[0].reason == "a reason that goes on and on, beyond the edge"
    agent.stop()


def test_dumb_terminal_takes_lines(tmp_path: Path, server: FakeServer) -> None:
    agent = start_in_terminal(tmp_path, server, kind="dumb", poll_interval=0.5)
    first, second = offer(server, name="first"), offer(server, name="second")
    agent.wait_for_text(PROMPT)
    assert agent.takes_lines()
    agent.type("d\n")
    agent.wait_for_text(REASON)
    agent.type("not today\n")
    server.wait(lambda: server.replies, "the answer")
    assert server.replies[0].reason == "not today"
    agent.wait_for_text("Job 2: second")
    wait_for_prompts(agent, 2)
    agent.type("accept\n")
    server.wait_until_ended(second)
    assert "\x1b" not in agent.text()
    assert "\u256d" not in agent.text()
    assert first
    agent.stop()


def test_job_control_finds_the_terminal_as_it_was(tmp_path: Path, server: FakeServer) -> None:
    """At a real shell: stopped, brought back, and stopped for good."""
    home = tmp_path / "worker"
    write_settings(home, server, auto_accept_jobs=False, poll_interval=0.5)
    shell = InTerminal("shell", ["bash", "--norc", "-i"], tmp_path, clean_environment())
    shell.type(f"{shlex.join([sys.executable, '-c', CODE, str(home)])}\n")
    job = offer(server)
    shell.wait_for_text(PROMPT)
    wait_for(lambda: not shell.takes_lines(), "single keys")
    shell.type("a\x1a")  # at once: the letter has had no time to act
    shell.wait_for_text("Stopped")
    shell.type("echo $((6 * 7)); stty -a\n")
    shown = shell.wait_for_text("icanon")
    assert "42" in shown
    assert " echo " in shown.partition("Stopped")[2]
    shell.type("fg\n")
    wait_for(lambda: last_line(shell).endswith("details: "), "the question again")
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 3, "time to pass")
    assert server.replies == []
    shell.type("a")
    server.wait_until_ended(job)
    offer(server)
    wait_for(lambda: PROMPT in last_line(shell), "the next question")
    shell.type("\x03")
    shell.wait_for_text("Stopping.")
    shell.type("stty -a; echo done-$((1 + 1))\n")
    shown = shell.wait_for_text("done-2")
    assert " -icanon" not in shown.rpartition("Stopping.")[2]
    shell.type("exit\n")
    assert shell.ended() == 0


def test_agent_in_the_background_waits_for_the_foreground(
    tmp_path: Path, server: FakeServer
) -> None:
    home = tmp_path / "worker"
    write_settings(home, server, auto_accept_jobs=False, poll_interval=0.5)
    shell = InTerminal("shell", ["bash", "--norc", "-i"], tmp_path, clean_environment())
    shell.type(f"{shlex.join([sys.executable, '-c', CODE, str(home)])} &\n")
    job = offer(server)
    shell.wait_for_text("Job 1 waits for your answer")
    assert PROMPT not in shell.screen()
    shell.type("fg\n")
    shell.wait_for_text(PROMPT)
    shell.type("a")
    server.wait_until_ended(job)
    shell.type("\x03")
    shell.wait_for_text("Stopping")
    shell.type("exit\n")
    assert shell.ended() == 0


# By rule, and on the worker's page.


def test_rules_start_and_decline_without_a_question(tmp_path: Path, server: FakeServer) -> None:
    agent = start_in_terminal(
        tmp_path,
        server,
        poll_interval=0.5,
        accept_when=[{"tag": ["nightly", "mine"], "max_gpus": 1}],
        decline_when=[{"name": "*crypto*"}],
    )
    mine = offer(server, name="mine", tags=["nightly"], gpus=1)
    server.wait_until_ended(mine)
    shown = agent.wait_for_text("Job 1 (mine, from alice) starts unasked by the rule")
    assert '{"tag":["nightly","mine"],"max_gpus":1.0}' in shown
    offer(server, name="a cryptominer", tags=["nightly"])
    server.wait(lambda: len(server.replies) == 2, "the no")
    assert (server.replies[1].accept, server.replies[1].reason) == (False, "by the owner's rules")
    assert PROMPT not in agent.screen()
    offer(server, name="another", tags=["other"])
    agent.wait_for_text("Job 3: another")
    agent.wait_for_text(PROMPT)
    assert server.polls[-1].max_offers > 20
    agent.stop()


def test_rules_start_no_more_than_there_is_room_for(tmp_path: Path, server: FakeServer) -> None:
    gate = tmp_path / "gate"
    code = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    sleepers = [server.submit({"main.py": code}, tags=["nightly"]) for _ in range(3)]
    for job in sleepers:
        server.offer(job)
    agent = start_in_terminal(tmp_path, server, poll_interval=0.5, accept_when=[{"tag": "nightly"}])
    server.wait_until_claimed(sleepers[0])
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 1, "a poll")
    assert len(server.replies) == 1
    gate.touch()
    for job in sleepers:
        server.wait_until_ended(job)
    assert [reply.accept for reply in server.replies] == [True] * 3
    agent.stop()


def test_all_but_what_a_rule_declines_starts(tmp_path: Path, server: FakeServer) -> None:
    agent = start_in_terminal(
        tmp_path, server, poll_interval=0.5, auto_accept_jobs=True, decline_when=[{"tag": "no"}]
    )
    server.wait_until_ended(offer(server, tags=["yes"]))
    offer(server, tags=["no"])
    server.wait(lambda: len(server.replies) == 2, "the no")
    assert not server.replies[1].accept
    assert PROMPT not in agent.screen()
    agent.stop()


def test_answer_on_the_page_ends_the_question_here(
    tmp_path: Path, server: FakeServer, agent: InTerminal
) -> None:
    code = owner_code(tmp_path / "worker")
    shown = agent.wait_for_text("/workers/worker-1 with the owner's code")
    assert f"{code[:4]}-{code[4:]}" in shown
    job = offer(server, name="first")
    other = offer(server, name="second")
    agent.wait_for_text(PROMPT)
    agent.type("d")
    agent.wait_for_text(REASON)
    agent.type("not")
    server.answer_on_page(job, f"{code[:4].lower()} {code[4:]}")
    agent.wait_for_text("Job 1 is accepted on the worker's page.")
    server.wait_until_ended(job)
    agent.wait_for_text("Job 2: second")
    server.answer_on_page(other, code, accept=False, reason="not now")
    agent.wait_for_text("Job 2 is declined on the worker's page.")
    server.wait(lambda: len(server.outcomes) == 2, "the outcomes")
    assert [one.outcome for one in server.outcomes] == ["done", "done"]
    assert [(one.accept, one.reason) for one in server.replies] == [
        (True, None),
        (False, "not now"),
    ]


def test_wrong_code_answers_nothing_and_is_told_at_the_terminal(
    tmp_path: Path, server: FakeServer, agent: InTerminal
) -> None:
    job = offer(server)
    agent.wait_for_text(PROMPT)
    code = owner_code(tmp_path / "worker")
    server.answer_on_page(job, code[::-1] if code != code[::-1] else "0" * 8)
    agent.wait_for_text("with a wrong code")
    server.wait(lambda: server.outcomes, "the outcome")
    assert server.outcomes[0].outcome == "wrong_code"
    wait_for(lambda: last_line(agent).endswith("details: "), "the question below")
    assert server.replies == []
    for tries in range(2, 32):
        server.answer_on_page(job, "wrong")
        server.wait(lambda tries=tries: len(server.outcomes) == tries, "the next outcome")  # type: ignore[misc]
    server.answer_on_page(job, code)
    server.wait(lambda: len(server.outcomes) == 32, "the last outcome")
    assert server.outcomes[-1].outcome == "too_many_tries"
    agent.type("a")
    server.wait_until_claimed(job)


def test_page_can_be_switched_off(tmp_path: Path, server: FakeServer) -> None:
    agent = start_in_terminal(tmp_path, server, poll_interval=0.5, answer_on_page=False)
    job = offer(server)
    agent.wait_for_text(PROMPT)
    assert not server.polls[-1].answer_on_page
    server.answer_on_page(job, "whatever")
    polls = len(server.polls)
    server.wait(lambda: len(server.polls) > polls + 2, "time to pass")
    assert server.outcomes == []
    assert "owner's code" not in agent.screen()
    assert not (tmp_path / "data" / "worker-1" / "owner_code").exists()
    agent.stop()
