"""Where packages come from on this machine: its settings for pip and uv, in uv's words.

People configure pip, environments are built by uv. These settings of pip are taken over, from its
files (`/etc/xdg/pip/pip.conf`, `/etc/pip.conf`, `~/.pip/pip.conf`, `~/.config/pip/pip.conf`,
`pip.conf` in the worker's own environment, `PIP_CONFIG_FILE`; the sections `global` and `install`)
and from its variables, which win:

    index-url          UV_DEFAULT_INDEX
    extra-index-url    UV_INDEX, and the newest version of all indexes is taken, as pip does
    no-index           UV_NO_INDEX
    find-links         UV_FIND_LINKS
    trusted-host       UV_INSECURE_HOST
    constraint         UV_CONSTRAINT
    cert               SSL_CERT_FILE
    client-cert        SSL_CLIENT_CERT
    proxy              ALL_PROXY
    timeout            UV_HTTP_TIMEOUT

What is set for uv itself wins: indexes of its own over all of pip's. They apply while an
environment is prepared, an interpreter fetched; jobs do not get them.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "no-index": "UV_NO_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}
_OTHER_NAMES = {"default-timeout": "timeout"}
_YES = {"1", "true", "yes", "y", "t", "on"}

_INDEX_NAMES = {"UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL"}
_UV_NAMES = {
    *_INDEX_NAMES,
    *("UV_CONFIG_FILE", "UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_FIND_LINKS"),
    *("UV_HTTP_CONNECT_TIMEOUT", "UV_HTTP_RETRIES", "UV_HTTP_TIMEOUT", "UV_INSECURE_HOST"),
    *("UV_KEYRING_PROVIDER", "UV_NATIVE_TLS", "UV_NO_INDEX", "UV_OFFLINE", "UV_OVERRIDE"),
    *("UV_PRERELEASE", "UV_REQUEST_TIMEOUT", "UV_SYSTEM_CERTS", "UV_TORCH_BACKEND"),
    *("UV_CONCURRENT_BUILDS", "UV_CONCURRENT_DOWNLOADS", "UV_CONCURRENT_INSTALLS"),
    *("UV_PYTHON_DOWNLOADS", "UV_PYTHON_DOWNLOADS_JSON_URL", "UV_PYTHON_INSTALL_MIRROR"),
    "UV_PYTHON_INSTALL_DIR",
}
_FOLDER_NAMES = {"PYENV_ROOT", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
"""Where interpreters, and settings and credentials for uv, may be."""
_PROXY_NAMES = {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
_NETWORK_NAMES = {
    *_PROXY_NAMES,
    "NETRC",
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
}


def package_settings(host: Mapping[str, str], prefix: Path = Path(sys.prefix)) -> dict[str, str]:
    """The variables that make uv look where this machine looks for packages.

    Args:
        host: the environment of the agent.
        prefix: of the interpreter whose `pip.conf` counts.
    """
    found = {
        name: value
        for name, value in host.items()
        if name in _UV_NAMES | _FOLDER_NAMES
        or name.startswith("UV_INDEX")
        or name.upper() in _NETWORK_NAMES
    }
    pip = _pip_settings(host, prefix)
    if _INDEX_NAMES & found.keys():
        pip = {name: value for name, value in pip.items() if not name.endswith("index-url")}
    translated = _translated(pip)
    return {**translated, **found, **_config_file(host)}


def pip_variables(host: Mapping[str, str], prefix: Path = Path(sys.prefix)) -> dict[str, str]:
    """The variables that make pip, where none of this machine's files are, look alike.

    Args:
        host: the environment of the agent.
        prefix: of the interpreter whose `pip.conf` counts.
    """
    pip = _pip_settings(host, prefix)
    of_uv = {
        "index-url": host.get("UV_DEFAULT_INDEX") or host.get("UV_INDEX_URL"),
        "extra-index-url": host.get("UV_EXTRA_INDEX_URL"),
        "cert": host.get("SSL_CERT_FILE") or host.get("REQUESTS_CA_BUNDLE"),
    }
    settings = {**{name: value for name, value in of_uv.items() if value}, **pip}
    known = {name: value for name, value in settings.items() if name in _NAMES}
    variables = {f"PIP_{name.upper().replace('-', '_')}": text for name, text in known.items()}
    return {**network_variables(host), **variables}


def network_variables(host: Mapping[str, str]) -> dict[str, str]:
    """The variables that say which proxies this machine uses."""
    return {name: value for name, value in host.items() if name.upper() in _PROXY_NAMES}


def named_paths(values: Iterable[str]) -> list[str]:
    """The files and folders of this machine that settings name, in order, each once."""
    words = [word.removeprefix("file://") for value in values for word in value.split()]
    found = {word for word in words if word.startswith("/") and word != "/" and Path(word).exists()}
    return sorted(found)


def _translated(pip: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, variable in _NAMES.items():
        words = pip.get(name, "").split()
        if not words:
            continue
        if name == "no-index":
            words = ["1"] if words[0].lower() in _YES else []
        found[variable] = ("," if name == "find-links" else " ").join(words)
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in found.items() if value}


def _pip_settings(host: Mapping[str, str], prefix: Path) -> dict[str, str]:
    """What pip is set to, by the names of its settings."""
    by_section: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for path in _pip_files(host, prefix):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue  # pip would refuse to run; a job that needs no package need not mind
        for section, values in by_section.items():
            if parser.has_section(section):
                values.update({_name(name): value for name, value in parser.items(section)})
    variables = {
        _name(name.removeprefix("PIP_")): value
        for name, value in host.items()
        if name.startswith("PIP_") and value
    }
    return {**by_section["global"], **by_section["install"], **variables}


def _name(written: str) -> str:
    name = written.lower().replace("_", "-").removeprefix("--")
    return _OTHER_NAMES.get(name, name)


def _pip_files(host: Mapping[str, str], prefix: Path) -> Iterator[Path]:
    """The files that pip reads, the weakest first."""
    chosen = host.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    for folder in (host.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(folder, "pip/pip.conf")
    yield Path("/etc/pip.conf")
    home = Path(host.get("HOME") or Path.home())
    yield home / ".pip/pip.conf"
    yield Path(host.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"
    yield prefix / "pip.conf"
    if chosen:
        yield Path(chosen)


def _config_file(host: Mapping[str, str]) -> dict[str, str]:
    """The machine's own file of settings for uv: what lies around a bundle must not count."""
    if host.get("UV_CONFIG_FILE"):
        return {}
    home = Path(host.get("HOME") or Path.home())
    folders = [Path(host.get("XDG_CONFIG_HOME") or home / ".config")]
    folders += [Path(folder) for folder in (host.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    for path in (*(folder / "uv/uv.toml" for folder in folders), Path("/etc/uv/uv.toml")):
        if path.is_file():
            return {"UV_CONFIG_FILE": str(path)}
    return {"UV_NO_CONFIG": "1"}
