from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dtrain.client import logins
from dtrain.client.client import Client
from dtrain.client.logins import Login
from dtrain.protocol.errors import DTrainError, Invalid

LAB = "https://dtrain.lab.example"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DTRAIN_SERVER_URL", "DTRAIN_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def sent(client: Client) -> str | None:
    """The token that the client would send."""
    return client.transport._headers.get("Authorization")


def test_nothing_is_kept_at_first() -> None:
    assert logins.place() == Login("http://localhost:5000")
    assert logins.forget() is None


def test_current_server_is_meant_where_none_is_named() -> None:
    logins.keep(Login("https://other.example", "other"))
    logins.keep(Login(LAB, "lab"))
    client = Client()
    assert (client.url, sent(client)) == (LAB, "Bearer lab")
    logins.keep(Login("https://other.example", "changed"))
    assert Client().url == "https://other.example"
    assert sent(Client(LAB)) == "Bearer lab"


def test_options_go_before_the_environment_and_that_before_what_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logins.keep(Login(LAB, "kept", "/kept.pem"))
    monkeypatch.setenv("DTRAIN_TOKEN", "environment")
    monkeypatch.setenv("DTRAIN_CA_FILE", "/environment.pem")
    assert logins.place() == Login(LAB, "environment", "/environment.pem")
    monkeypatch.setenv("DTRAIN_SERVER_URL", "http://environment.example")
    assert logins.place().url == "http://environment.example"
    said = logins.place("http://said.example", "said", "/said.pem")
    assert said == Login("http://said.example", "said", "/said.pem")


@pytest.mark.parametrize(
    "url",
    [
        "http://dtrain.lab.example",
        "https://dtrain.lab.example:8443",
        "https://dtrain.lab.example.evil.test",
        "https://lab.example",
        "http://dtrain.lab.example:443",
    ],
)
def test_token_is_sent_to_no_other_server(url: str) -> None:
    logins.keep(Login(LAB, "lab", "/lab.pem"))
    assert logins.place(url) == Login(url)
    assert sent(Client("http://dtrain.lab.example")) is None


@pytest.mark.parametrize("url", [f"{LAB}/", f"{LAB}:443", "https://DTRAIN.lab.example", LAB])
def test_token_is_sent_to_the_server_however_it_is_written(url: str) -> None:
    logins.keep(Login(LAB, "lab"))
    assert logins.place(url).token == "lab"


def test_only_the_owner_can_read_what_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "configuration" / "dtrain"
    folder.mkdir(parents=True, mode=0o755)
    logins.keep(Login(LAB, "lab"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("login.json", 0o600)


def test_forgetting_leaves_the_others() -> None:
    logins.keep(Login("https://other.example", "other"))
    logins.keep(Login(LAB, "lab"))
    assert logins.forget(f"{LAB}:443") == Login(LAB, "lab")
    assert logins.place().url == "http://localhost:5000"
    assert logins.place("https://other.example").token == "other"
    assert logins.forget(LAB) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"servers": 7}', "\xff"])
def test_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "configuration" / "dtrain" / "login.json"
    file.parent.mkdir(parents=True)
    file.write_text(content, encoding="latin-1")
    with pytest.raises(Invalid, match=r"login\.json is damaged; delete it"):
        Client()


def test_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert logins.place().url == "http://localhost:5000"
    with pytest.raises(DTrainError, match="XDG_CONFIG_HOME"):
        logins.keep(Login(LAB, "lab"))
