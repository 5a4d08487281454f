"""Where `dtrain login` has been: the servers of a person, kept in a file that only they can read.

For a server's address, its token and its CA, what is said outright goes before the environment,
and that before what is kept here. A token is sent to no server but the one that it was kept for.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from dtrain.protocol.errors import DTrainError, Invalid

from .address import CA_FILE, origin

DEFAULT_URL = "http://localhost:5000"
SERVER_URL = "DTRAIN_SERVER_URL"
TOKEN = "DTRAIN_TOKEN"  # noqa: S105 - the name of a variable, no token


class Login(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server, and how to come to it."""

    url: str
    token: str | None = None
    ca_file: str | None = None


class Logins(msgspec.Struct, frozen=True):
    """All servers that are kept."""

    current: str | None = None
    """The origin of the one that is meant where none is named."""
    servers: dict[str, Login] = {}
    """By their origins: scheme, host and port."""


def place(url: str | None = None, token: str | None = None, ca_file: str | None = None) -> Login:
    """The server that is meant, and how to come to it.

    Args:
        url: where it is; else what DTRAIN_SERVER_URL says, else the current login.
        token: the access token; else what DTRAIN_TOKEN says, else the one kept for that server.
        ca_file: the CAs to trust; else what DTRAIN_CA_FILE names, else as kept for that server.

    Raises:
        Invalid: the address cannot be one, or the file of logins is damaged.
    """
    kept = read()
    url = url or os.environ.get(SERVER_URL)
    if not url:
        current = kept.servers.get(kept.current or "")
        url = current.url if current else DEFAULT_URL
    known = kept.servers.get(origin(url), Login(url))
    return Login(
        url,
        token or os.environ.get(TOKEN) or known.token,
        ca_file or os.environ.get(CA_FILE) or known.ca_file,
    )


def read() -> Logins:
    """What is kept.

    Raises:
        Invalid: the file is damaged, or cannot be read.
    """
    path = _path()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Logins)
    except (FileNotFoundError, NotADirectoryError):
        return Logins()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Invalid(f"{path} is damaged; delete it and log in again.") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Invalid(f"{path} cannot be read ({reason}); correct its permissions.") from error


def keep(login: Login) -> None:
    """Keep a server, in place of what was kept for it, and make it the current one."""
    kept = read()
    name = origin(login.url)
    _write(Logins(name, {**kept.servers, name: login}))


def forget(url: str | None = None) -> Login | None:
    """Forget a server, else the current one; None where it is not kept."""
    kept = read()
    name = origin(url) if url else kept.current or ""
    if name not in kept.servers:
        return None
    left = {other: login for other, login in kept.servers.items() if other != name}
    _write(Logins(kept.current if kept.current in left else None, left))
    return kept.servers[name]


def _path() -> Path:
    configuration = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.expanduser(configuration), "dtrain", "login.json")  # noqa: PTH111 - bears a missing home


def _write(logins: Logins) -> None:
    path = _path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(logins), indent=4) + b"\n")
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DTrainError(
            f"{path} cannot be written ({reason}); make its folder writable, or name another one in"
            " XDG_CONFIG_HOME."
        ) from error
