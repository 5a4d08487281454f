"""The entry of `dtrain`: its commands by name, and how every error ends."""

from __future__ import annotations

import gc
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
    "metrics": ("metrics", "Show what a job has measured."),
    "artifacts": ("artifacts", "Download what jobs have left."),
    "explain": ("history", "Say why a job is where it is."),
    "events": ("history", "List what has happened to a job."),
    "wait": ("wait", "Wait until jobs have ended."),
    "open": ("browse", "Open a job's page in the browser."),
    "cancel": ("changes", "Stop jobs."),
    "retry": ("changes", "Hand ended jobs in again."),
    "clone": ("clone", "Hand a job in again, with changes."),
    "delete": ("changes", "Forget jobs and all that they left."),
    "bundle": ("artifacts", "Download what was handed in."),
    "workers": ("workers", "List the workers."),
    "drain": ("workers", "Have workers take nothing new."),
    "resume": ("workers", "Have drained workers take jobs again."),
    "login": ("login", "Keep a server's address and access token."),
    "logout": ("login", "Forget a server's address and access token."),
    "server": ("run", "Run a server."),
    "worker": ("run", "Run a worker."),
    "token": ("token", "Show or replace the tokens of a server here."),
    "backup": ("backup", "Copy a server's data, while it serves."),
    "restore": ("backup", "Put a copy back."),
    "move-database": ("backup", "Go from SQLite to PostgreSQL, or back."),
    "demo": ("demo", "See it all at work on this machine."),
    "completion": ("completion", "Print the script that completes commands in a shell."),
}
"""For each command the module that holds it, and what it does in a few words."""
COMPLETION = "_DTRAIN_COMPLETE"
"""Set by a shell that asks what may be meant."""
FAILED = 1
"""The exit status for a job that has failed or was cancelled."""
REFUSED = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


class Commands(click.Group):
    """A group whose commands are imported when they are called, not to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own form
        """The names, in the order in which help shows them."""
        return [name for name, (module, _) in _COMMANDS.items() if _exists(module)]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  click's own form
        cmd_name: str,
    ) -> click.Command | None:
        """The command of a name, imported now."""
        if cmd_name not in _COMMANDS or not _exists(_COMMANDS[cmd_name][0]):
            return None
        module = importlib.import_module(f"dtrain.cli.{_COMMANDS[cmd_name][0]}")
        for found in vars(module).values():
            if isinstance(found, click.Command) and found.name == cmd_name:
                return found
        raise LookupError(f"There is no command {cmd_name} in {module.__name__}.")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name, or the names that may have been meant."""
        wanted = args[0]
        if ctx.resilient_parsing or wanted.startswith("-") or wanted in _COMMANDS:
            return super().resolve_command(ctx, args)
        import difflib  # noqa: PLC0415 -- every command's start would wait for it

        close = difflib.get_close_matches(wanted, self.list_commands(ctx))
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise click.UsageError(f"There is no command {wanted[:100]!r}.{hint}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """What may be meant, without importing the commands."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  for shells alone

        found = [
            CompletionItem(name, help=_COMMANDS[name][1])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises ends in a sentence and an exit status."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Unauthorized as error:
            complain(
                f"{error.detail} Log in with dtrain login, or give it by --token or DTRAIN_TOKEN."
            )
            ctx.exit(REFUSED)
        except DTrainError as error:
            complain(error.detail)
            ctx.exit(REFUSED)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            _forget_output()
            ctx.exit(BROKEN_PIPE)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            complain(f"{place}{error.strerror or error}")
            ctx.exit(REFUSED)
        except Exception as error:
            if os.environ.get("DTRAIN_DEBUG") or _runs_on(ctx.invoked_subcommand):
                raise
            complain(
                f"A fault in DTrain itself ({type(error).__name__}: {error}); see where it is with"
                " DTRAIN_DEBUG=true, and report it."
            )
            ctx.exit(REFUSED)
        return result


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="dtrain %(version)s")
@click.option(
    "--server",
    metavar="URL",
    help="The server's address; else DTRAIN_SERVER_URL, else where you are logged in, else"
    " http://localhost:5000.",
)
@click.option(
    "--token", metavar="TOKEN", help="Its access token; else DTRAIN_TOKEN, else as logged in."
)
@click.pass_context
def dtrain(context: click.Context, server: str | None, token: str | None) -> None:
    """Hand in a folder of training code and have it run on whichever machine is free."""
    context.obj = {"server": server, "token": token}


def main() -> None:
    """Run the command line and end the process with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack the letters of a job's name
    if COMPLETION in os.environ:
        importlib.import_module("dtrain.cli.completion").install()
    try:
        dtrain(prog_name="dtrain")
    finally:
        # At its end the interpreter would look through all that is loaded for what nobody needs,
        # which takes as long as an eighth of a short command.
        gc.freeze()


def _runs_on(name: str | None) -> bool:
    """Whether a command is a server or a worker, whose log is to hold where a fault was."""
    return name in _COMMANDS and _COMMANDS[name][0] == "run"


def _exists(module: str) -> bool:
    return importlib.util.find_spec(f"dtrain.cli.{module}") is not None


def _forget_output() -> None:
    """Let the interpreter flush into nothing at its end, instead of into the broken pipe."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
