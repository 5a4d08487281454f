"""The entry of `dtrain`: its commands by name, and how every error ends."""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from typing import Any

import click

from dtrain import __version__
from dtrain.protocol.errors import DTrainError, Unauthorized

from .output import complain

_COMMANDS = {
    "submit": ("submit", "Hand in a folder or a ZIP file as a job."),
    "jobs": ("jobs", "List the jobs."),
    "show": ("show", "Show all about a job."),
    "logs": ("logs", "Print what a job has printed."),
    "cancel": ("jobs", "Stop jobs."),
    "workers": ("workers", "List the workers."),
    "server": ("run", "Run a server."),
    "worker": ("run", "Run a worker."),
    "demo": ("demo", "See it all at work on this machine."),
}
"""For each command the module that holds it, and what it does in a few words."""
REFUSED = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


class Commands(click.Group):
    """A group whose commands are imported when they are called, not to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own form
        """The names, in the order in which help shows them."""
        return [name for name, (module, _) in _COMMANDS.items() if _exists(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"dtrain.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises ends in a sentence and an exit status."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except Unauthorized as error:
            complain(f"{error.detail} Give it with --token, or in DTRAIN_TOKEN.")
            ctx.exit(REFUSED)
        except DTrainError as error:
            complain(error.detail)
            ctx.exit(REFUSED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _forget_output()
            ctx.exit(BROKEN_PIPE)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            complain(f"{place}{error.strerror or error}")
            ctx.exit(REFUSED)
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="dtrain %(version)s")
@click.option(
    "--server",
    metavar="URL",
    help="The server's address; else DTRAIN_SERVER_URL, else http://localhost:5000.",
)
@click.option("--token", metavar="TOKEN", help="The server's access token; else DTRAIN_TOKEN.")
@click.pass_context
def dtrain(context: click.Context, server: str | None, token: str | None) -> None:
    """Hand in a folder of training code and have it run on whichever machine is free."""
    context.obj = {"server": server, "token": token}


def main() -> None:
    """Run the command line and end the process with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack the letters of a job's name
    dtrain(prog_name="dtrain")


def _exists(module: str) -> bool:
    return importlib.util.find_spec(f"dtrain.cli.{module}") is not None


def _forget_output() -> None:
    """Let the interpreter flush into nothing at its end, instead of into the broken pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
