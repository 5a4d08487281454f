"""docs/cli.md says what there is to type: every command, every option, every exit status."""

from __future__ import annotations

import re

import click
import pytest
from support.checks import ROOT

from dtrain.cli.main import BROKEN_PIPE, FAILED, INTERRUPTED, REFUSED, dtrain

_COMMAND_LINE = ROOT / "docs" / "cli.md"


def test_every_command_is_described_and_no_other() -> None:
    sections = re.findall(r"^## dtrain (.+)$", _COMMAND_LINE.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(dtrain.list_commands(click.Context(dtrain)))


@pytest.mark.parametrize("name", dtrain.list_commands(click.Context(dtrain)))
def test_every_option_of_a_command_is_described_and_no_other(name: str) -> None:
    context = click.Context(dtrain)
    command = dtrain.get_command(context, name)
    assert command is not None
    everywhere = _options_in(_section("Every command"))
    described = _options_in(_section(f"dtrain {name}"))
    if name == "clone":
        described |= _options_in(_section("dtrain submit"))
    assert _options_of(command) - everywhere == described
    assert f"dtrain {name}" in _section(f"dtrain {name}").partition("```sh\n")[2]


def test_every_option_before_the_command_is_described() -> None:
    given = {
        spelling for each in dtrain.get_params(click.Context(dtrain)) for spelling in each.opts
    }
    assert given - _options_in(_section("Every command")) == set()


def test_every_exit_status_is_described() -> None:
    table = _section("Every command").partition("### Exit status")[2].partition("###")[0]
    found = [int(number) for number in re.findall(r"^\| (\d+) ", table, re.MULTILINE)]
    assert found == [0, FAILED, REFUSED, INTERRUPTED, BROKEN_PIPE]


def _options_of(command: click.Command) -> set[str]:
    """The spellings of a command's options, and of those of the commands below it."""
    options = [each for each in command.params if isinstance(each, click.Option)]
    given = {spelling for each in options for spelling in each.opts}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return given.union(*map(_options_of, below))


def _section(title: str) -> str:
    """What the document of the command line says under a heading."""
    text = _COMMAND_LINE.read_text()
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def _options_in(section: str) -> set[str]:
    rows = re.findall(r"^\| (`-[^|]*)\|", section, re.MULTILINE)
    return {spelling for row in rows for spelling in re.findall(r"`(-[^`]*)`", row)}
