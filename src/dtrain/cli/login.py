"""`dtrain login` and `dtrain logout`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from dtrain.client import logins
from dtrain.client.address import checked_address, is_loopback, origin
from dtrain.client.logins import Login
from dtrain.client.transport import Transport
from dtrain.protocol import routes
from dtrain.protocol.errors import Invalid, Refused, Unauthorized

from .output import clean, complain


@click.command()
@click.argument("url", required=False)
@click.option("--token", metavar="TOKEN", help="The access token; better is to be asked for it.")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, path_type=Path),
    help="The CA to trust, where the server's certificate is signed by one of your own.",
)
@click.pass_context
def login(context: click.Context, url: str | None, token: str | None, ca_file: Path | None) -> None:
    """Keep a server's address and its access token for all that you do here.

    URL is the server's address. The token is asked for, or read from standard input; it is kept in
    ~/.config/dtrain, where only you can read it, and sent to this server alone. Log in at another
    server, or at this one again, to make it the current one.
    """
    before = context.obj
    found = logins.place(url or before["server"], ca_file=str(ca_file) if ca_file else None)
    ca = found.ca_file and str(Path(found.ca_file).absolute())
    if _lets_in(Login(found.url, None, ca)):
        logins.keep(Login(found.url, None, ca))
        click.echo(f"{clean(found.url)} wants no token of this machine; commands go there now.")
    else:
        _warn(found.url)
        token = token or before["token"] or _kept_token(found.url, ca) or _ask_for_token()
        if not _lets_in(Login(found.url, token, ca)):
            raise Refused(
                f"{found.url} does not accept this token, so it is not kept; `dtrain token show`"
                " prints the right one on the server's machine."
            )
        logins.keep(Login(found.url, token, ca))
        click.echo(f"Logged in at {clean(found.url)}; commands go there now.")
    for variable in (logins.SERVER_URL, logins.TOKEN):
        if os.environ.get(variable):
            complain(f"{variable} is set here and goes before what is kept; unset it.")


@click.command()
@click.argument("url", required=False)
def logout(url: str | None) -> None:
    """Forget a server's address and its access token.

    URL is the server's address; without it the current one is meant.
    """
    forgotten = logins.forget(url)
    if forgotten is None:
        where = f"at {clean(url)}" if url else "anywhere"
        raise Invalid(f"You are not logged in {where}; there is nothing to forget.")
    click.echo(f"Logged out of {clean(forgotten.url)}.")


def _lets_in(login: Login) -> bool:
    """Whether the server accepts the token, or none; errors say why it cannot be asked."""
    transport = Transport(login.url, login.token, ca_file=login.ca_file)
    try:
        transport.request("GET", routes.WORKERS)
    except Unauthorized:
        return False
    finally:
        transport.close()
    return True


def _kept_token(url: str, ca_file: str | None) -> str | None:
    """The token that is kept for the server, if it still holds."""
    known = logins.read().servers.get(origin(url))
    if known is None or known.token is None:
        return None
    return known.token if _lets_in(Login(url, known.token, ca_file)) else None


def _ask_for_token() -> str:
    """The token as it is typed, unseen, or comes by a pipe."""
    if sys.stdin.isatty():
        token = str(click.prompt("Access token", hide_input=True, err=True))
    else:
        token = sys.stdin.readline(10_000)
    if not token.strip():
        raise Invalid("No token was given; type it when asked, or pipe it in.")
    return token.strip()


def _warn(url: str) -> None:
    parts = checked_address(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        complain(
            f"Everyone on the way to {url} can read the token, since it is sent without TLS; an"
            " https address keeps it secret."
        )
