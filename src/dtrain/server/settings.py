"""What can be set about a server, and where it comes from: defaults, `config.py`, environment.

The same names stand in `config.py` and in the environment, which wins; an empty text is a setting
left out. What is unknown, or of another kind than it may be, is refused by name. Secrets that
nobody set are made once and kept in the data folder.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import runpy
import socket
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from dtrain.protocol.bundle import DEFAULT_LIMITS, BundleLimits
from dtrain.protocol.errors import Invalid

from .kept_secrets import Tokens, kept_secrets
from .setting import (
    Network,
    Setting,
    address,
    file,
    flag,
    folder,
    host_of,
    is_loopback,
    names,
    networks,
    number,
    text,
    word,
)

CONFIG = "config.py"
DATA = "data"
"""The folder in the home folder that holds what the server writes."""
SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"
MEGABYTE = 1024**2
_MEGABYTES = number(1, 2**20)

SETTINGS = (
    Setting("SECRET_KEY", None, text("a text that nobody can guess")),
    Setting(
        "DATABASE_URL", f"{SQLITE}{DATA}/dtrain.db", text("a URL, sqlite:///… or postgresql://…")
    ),
    Setting("WORKER_SHARED_TOKEN", None, word(1)),
    Setting("UPLOAD_FOLDER", Path(DATA, "uploads"), folder),
    Setting("JOB_BUNDLES_FOLDER", Path(DATA, "bundles"), folder),
    Setting("DTRAIN_HOST", "127.0.0.1", word(1)),
    Setting("DTRAIN_PORT", 5000, number(1, 65535)),
    Setting("DTRAIN_ACCESS_TOKEN", None, word(16)),
    Setting("DTRAIN_PUBLIC_URL", None, address),
    Setting("DTRAIN_ALLOWED_HOSTS", (), names),
    Setting("DTRAIN_TRUSTED_PROXIES", (), networks),
    Setting("DTRAIN_TLS_CERTIFICATE", None, file),
    Setting("DTRAIN_TLS_KEY", None, file),
    Setting("DTRAIN_MAX_UPLOAD_MB", DEFAULT_LIMITS.archive_bytes // MEGABYTE, _MEGABYTES),
    Setting("DTRAIN_MAX_UNPACKED_MB", DEFAULT_LIMITS.expanded_bytes // MEGABYTE, _MEGABYTES),
    Setting("DTRAIN_MAX_BUNDLE_FILES", DEFAULT_LIMITS.entries, number(1, 1_000_000)),
    Setting("DTRAIN_MAX_ARTIFACT_MB", 10_240, _MEGABYTES),
    Setting("DTRAIN_MAX_CHECKPOINT_MB", 10_240, _MEGABYTES),
    Setting("DTRAIN_KEEP_CHECKPOINTS_DAYS", 14, number(0, 3650)),
    Setting("DTRAIN_MAX_HELD_POLLS", 1000, number(1, 10_000)),
    Setting("DTRAIN_MAX_STREAMS", 1000, number(1, 10_000)),
    Setting("DTRAIN_DEBUG", False, flag),  # noqa: FBT003 - a default, not an argument
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}
WORKER_TOKEN = "WORKER_SHARED_TOKEN"  # noqa: S105 - the names of settings, no secrets
ACCESS_TOKEN = "DTRAIN_ACCESS_TOKEN"  # noqa: S105
_SECRETS = ("SECRET_KEY", WORKER_TOKEN, ACCESS_TOKEN)
_PATHS = ("UPLOAD_FOLDER", "JOB_BUNDLES_FOLDER", "DTRAIN_TLS_CERTIFICATE", "DTRAIN_TLS_KEY")
_PREFIX = "DTRAIN_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one server, checked; each is named as in `SETTINGS`, without the prefix."""

    home: Path
    secret_key: str
    database_url: str
    """A SQLAlchemy URL; that of a file is absolute."""
    worker_shared_token: str
    """As it was at the start; see `tokens`."""
    upload_folder: Path
    """What jobs leave: artifacts and finished logs."""
    job_bundles_folder: Path
    host: str
    """The IP address to listen on."""
    port: int
    access_token: str
    """As it was at the start; see `tokens`."""
    access_token_wanted: bool
    """Whether someone set the access token: then callers on loopback need it as well."""
    public_url: str | None
    """By which others reach the server, such as `https://dtrain.example`; None where only its own
    host and port are known."""
    allowed_hosts: tuple[str, ...]
    """Names by which callers may know the server, beside those it knows itself."""
    trusted_proxies: tuple[Network, ...]
    """From where headers are believed that tell of the caller before a proxy."""
    tls_certificate: Path | None
    """The chain in PEM that the server shows; None without TLS of its own."""
    tls_key: Path | None
    max_upload_mb: int
    """The largest bundle, as a ZIP."""
    max_unpacked_mb: int
    """The largest bundle, unpacked."""
    max_bundle_files: int
    max_artifact_mb: int
    """The largest single file that a job may leave."""
    max_checkpoint_mb: int
    """The largest checkpoint, all of its files together."""
    keep_checkpoints_days: int
    """How long the checkpoints of jobs are kept that have ended otherwise than completed."""
    max_held_polls: int
    """Polls of workers that may wait at once; one more is answered without waiting."""
    max_streams: int
    """Live streams that may be open at once; one more is refused."""
    debug: bool
    kept: frozenset[str]
    """The names of the secrets that nobody set; they can be replaced while the server runs."""

    @property
    def data(self) -> Path:
        """The folder that holds what the server writes."""
        return self.home / DATA

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def open(self) -> bool:
        """Whether a caller on this machine needs no access token."""
        return self.on_loopback and not self.access_token_wanted and not self._is_public

    @property
    def _is_public(self) -> bool:
        """Whether others reach the server by its public address, through a proxy if need be."""
        return self.public_url is not None and not is_loopback(host_of(self.public_url))

    def tokens(self) -> Tokens:
        """The tokens of workers and of people, followed from now on."""
        at_start = {WORKER_TOKEN: self.worker_shared_token, ACCESS_TOKEN: self.access_token}
        return Tokens(self.data, at_start, self.kept & at_start.keys())

    @property
    def max_upload_bytes(self) -> int:
        """The largest bundle, as a ZIP."""
        return self.max_upload_mb * MEGABYTE

    @property
    def bundle_limits(self) -> BundleLimits:
        """How large a bundle may be."""
        return BundleLimits(
            archive_bytes=self.max_upload_bytes,
            expanded_bytes=self.max_unpacked_mb * MEGABYTE,
            entries=self.max_bundle_files,
        )

    @property
    def max_checkpoint_bytes(self) -> int:
        """The largest checkpoint, all of its files together."""
        return self.max_checkpoint_mb * MEGABYTE

    @property
    def max_artifact_bytes(self) -> int:
        """The largest single file that a job may leave."""
        return self.max_artifact_mb * MEGABYTE

    @property
    def database_file(self) -> Path | None:
        """SQLite's file; None with another database."""
        return sqlite_file(self.database_url)


def load(
    home: Path,
    environment: Mapping[str, str] | None = None,
    secrets: Callable[[Path, Sequence[str], Iterable[str]], dict[str, str]] = kept_secrets,
) -> Settings:
    """The settings of the server that lives in a folder.

    Args:
        home: the folder.
        environment: its variables; else those of this process.
        secrets: gives those that nobody set, by the data folder, their names, and all that is set.

    Raises:
        Invalid: a setting is unknown or not what it may be; the text names it.
    """
    home = home.resolve()
    given = _from_config(home / CONFIG)
    given.update(_from_environment(os.environ if environment is None else environment))
    values = {setting.name: setting.default for setting in SETTINGS} | given
    kept = [name for name in _SECRETS if name not in given]
    values |= secrets(home / DATA, kept, given)
    values["DATABASE_URL"] = database_url(values["DATABASE_URL"], home)
    values["DTRAIN_HOST"] = _address(values["DTRAIN_HOST"])
    for name in _PATHS:
        values[name] = values[name] and home / values[name]
    _check_pair(values)
    return Settings(
        home=home,
        access_token_wanted=ACCESS_TOKEN in given,
        kept=frozenset(kept),
        **{_BY_NAME[name].attribute: value for name, value in values.items()},
    )


def _from_config(path: Path) -> dict[str, Any]:
    """What `config.py` sets: its names in upper case, unless their value is None."""
    if not path.exists():
        return {}
    try:
        found = runpy.run_path(str(path))
    except Exception as error:  # the file is the user's own program: anything can go wrong in it
        raise Invalid(f"{path}{_line(error, path)} cannot be read: {_words(error)}.") from error
    given = {}
    for name, value in found.items():
        if not name.isupper() or name.startswith("_"):
            continue
        if name not in _BY_NAME:
            raise Invalid(f"{path} sets {name}, which is no setting; {_nearest(name)}.", field=name)
        if value is not None and value != "":
            given[name] = _BY_NAME[name].read(value, str(path))
    return given


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the environment sets. Foreign variables are left alone, save one that looks misspelt."""
    for name in environment:
        if name.startswith(_PREFIX) and name not in _BY_NAME and _misspelt(name):
            raise Invalid(
                f"The environment sets {name}, which is no setting; {_nearest(name)}.", field=name
            )
    return {
        name: setting.read(environment[name], "the environment")
        for name, setting in _BY_NAME.items()
        if environment.get(name)
    }


def _misspelt(name: str) -> bool:
    ours = [known.removeprefix(_PREFIX) for known in _BY_NAME if known.startswith(_PREFIX)]
    return bool(difflib.get_close_matches(name.removeprefix(_PREFIX), ours, 1, cutoff=0.75))


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, [*_BY_NAME], 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(_BY_NAME)}"


def _line(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}," if error.lineno else ""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f", line {lines[-1]}," if lines else ""


def _words(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else f"{type(error).__name__}: {error}"


def sqlite_file(url: str) -> Path | None:
    """The file of SQLite that a checked URL names; None with another database."""
    if not url.startswith(SQLITE):
        return None
    return Path(unquote(url.removeprefix(SQLITE).partition("?")[0]))


def database_url(url: str, home: Path) -> str:
    """The URL with its driver named, and with an absolute path.

    Raises:
        Invalid: it names no database that DTrain can use.
    """
    for short in ("postgresql://", "postgres://"):
        if url.startswith(short):
            return _POSTGRESQL + url.removeprefix(short)
    if url.startswith(_POSTGRESQL):
        return url
    path, mark, options = url.removeprefix(SQLITE).partition("?")
    if not url.startswith(SQLITE) or path in {"", ":memory:"}:
        raise Invalid(
            "DATABASE_URL names no database that DTrain can use; it may be a URL such as"
            " sqlite:///app.db or postgresql://user:password@host/name.",
            field="DATABASE_URL",
        )
    return f"{SQLITE}{quote(str(home / unquote(path)), safe='/: @')}{mark}{options}"


def _check_pair(values: Mapping[str, Any]) -> None:
    """Refuse a certificate without its key, and a key without its certificate."""
    pair = ("DTRAIN_TLS_CERTIFICATE", "DTRAIN_TLS_KEY")
    missing = [name for name in pair if values[name] is None]
    if len(missing) == 1:
        given = pair[1 - pair.index(missing[0])]
        raise Invalid(
            f"{given} is set and {missing[0]} is not; TLS needs both, so set the other one too.",
            field=missing[0],
        )


def _address(host: str) -> str:
    """The IP address that a host name stands for."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        raise Invalid(
            f"DTRAIN_HOST is {host!r}, which is no address of this machine; it may be 127.0.0.1,"
            " 0.0.0.0 or another address of this machine.",
            field="DTRAIN_HOST",
        ) from None
    # A name may stand for both kinds of addresses; the older one is the one that clients try last.
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])
