"""Settings: where they come from, and what is refused by name."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dtrain.protocol.errors import DTrainError, Invalid
from dtrain.server.kept_secrets import kept_secrets
from dtrain.server.settings import SETTINGS, load

PROJECT = Path(__file__).parents[2]
WORKER_VARIABLES = {
    "DTRAIN_SERVER_URL": "http://localhost:5000",
    "DTRAIN_WORKER_TOKEN": "t",
    "DTRAIN_WORKER_NAME": "worker-1",
    "DTRAIN_POLL_INTERVAL": "10",
    "DTRAIN_MAX_JOBS": "1",
    "DTRAIN_JOB_ID": "7",
    "DTRAIN_ATTEMPT": "1",
    "DTRAIN_OUTPUT_DIR": "/tmp",
    "DTRAIN_CHECKPOINT_DIR": "/tmp",
    "DTRAIN_TOKEN": "t",
    "DTRAIN_WORK_DIR": "/tmp",
    "DTRAIN_LABELS": "a=b",
    "DTRAIN_PYTHON": "3.11",
    "DTRAIN_ON_STOP": "drain",
    "DTRAIN_AUTO_ACCEPT_JOBS": "true",
    "DTRAIN_DOCKER_ENABLED": "true",
    "DTRAIN_MAX_MEMORY_GB": "8",
    "DTRAIN_MAX_CPU_PERCENT": "80",
    "DTRAIN_MAX_CONCURRENT_JOBS": "2",
}


def write_config(home: Path, text: str) -> None:
    (home / "config.py").write_text(text)


def complaint(home: Path, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(Invalid) as caught:
        load(home, environment or {})
    text = caught.value.detail
    assert "\n" not in text
    return text


def test_settings_have_defaults_in_the_home_folder(tmp_path: Path) -> None:
    settings = load(tmp_path, {})
    assert (settings.host, settings.port) == ("127.0.0.1", 5000)
    assert settings.database_url == f"sqlite:///{tmp_path}/data/dtrain.db"
    assert settings.database_file == tmp_path / "data/dtrain.db"
    assert settings.upload_folder == tmp_path / "data/uploads"
    assert settings.job_bundles_folder == tmp_path / "data/bundles"
    assert settings.open
    assert not settings.debug


def test_settings_come_from_the_config_file_and_the_environment_wins(tmp_path: Path) -> None:
    write_config(tmp_path, 'SECRET_KEY = "one"\nDTRAIN_PORT = 5001\nDTRAIN_DEBUG = True\n')
    settings = load(tmp_path, {"DTRAIN_PORT": "5002", "WORKER_SHARED_TOKEN": "your-worker-token"})
    assert settings.secret_key == "one"
    assert settings.port == 5002
    assert settings.worker_shared_token == "your-worker-token"
    assert settings.debug


def test_settings_take_the_users_own_variables(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        {
            "SECRET_KEY": "your-secret-key",
            "DATABASE_URL": "sqlite:///app.db",
            "WORKER_SHARED_TOKEN": "your-worker-token",
            "UPLOAD_FOLDER": "/path/to/uploads",
            "JOB_BUNDLES_FOLDER": "bundles",
        },
    )
    assert settings.secret_key == "your-secret-key"
    assert settings.database_file == tmp_path / "app.db"
    assert settings.upload_folder == Path("/path/to/uploads")
    assert settings.job_bundles_folder == tmp_path / "bundles"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DTRAIN_PORT", "http"),
        ("DTRAIN_PORT", "0"),
        ("DTRAIN_PORT", "65536"),
        ("DTRAIN_PORT", "50.5"),
        ("DTRAIN_PORT", "٥٠٠٠"),
        ("DTRAIN_PORT", "9" * 5000),
        ("DTRAIN_DEBUG", "perhaps"),
        ("DTRAIN_ACCESS_TOKEN", "short"),
        ("DTRAIN_ACCESS_TOKEN", "with a space in the middle"),
        ("WORKER_SHARED_TOKEN", "your worker token"),
        ("WORKER_SHARED_TOKEN", "schlüssel"),
        ("DTRAIN_ALLOWED_HOSTS", "http://example.com/"),
        ("DTRAIN_ALLOWED_HOSTS", "*"),
        ("DTRAIN_PUBLIC_URL", "dtrain.example"),
        ("DTRAIN_PUBLIC_URL", "ftp://dtrain.example"),
        ("DTRAIN_PUBLIC_URL", "https://dtrain.example/path"),
        ("DTRAIN_PUBLIC_URL", "https://user@dtrain.example"),
        ("DTRAIN_PUBLIC_URL", "https://dtrain.example:99999"),
        ("DTRAIN_PUBLIC_URL", "https://"),
        ("DTRAIN_PUBLIC_URL", "https://[::1"),
        ("DTRAIN_PUBLIC_URL", "https://a b"),
        ("DTRAIN_TRUSTED_PROXIES", "proxy.example"),
        ("DTRAIN_TRUSTED_PROXIES", "10.0.0.1/24"),
        ("DTRAIN_TLS_KEY", "a\nb"),
        ("DATABASE_URL", "app.db"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "mysql://u:p@h/db"),
        ("DTRAIN_HOST", "no-such-host.invalid"),
        ("DTRAIN_MAX_UPLOAD_MB", "-1"),
        ("DTRAIN_MAX_STREAMS", "NaN"),
        ("UPLOAD_FOLDER", "a\nb"),
    ],
)
def test_settings_refuse_what_a_setting_may_not_be(tmp_path: Path, name: str, value: str) -> None:
    text = complaint(tmp_path, {name: value})
    assert name in text
    assert "may be" in text
    assert len(text) < 300


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("DTRAIN_PORT = True", "DTRAIN_PORT"),
        ("DTRAIN_PORT = 5000.0", "DTRAIN_PORT"),
        ("DTRAIN_DEBUG = 1", "DTRAIN_DEBUG"),
        ("SECRET_KEY = 12345", "SECRET_KEY"),
        ("UPLOAD_FOLDER = 7", "UPLOAD_FOLDER"),
        ("DTRAIN_ALLOWED_HOSTS = [1]", "DTRAIN_ALLOWED_HOSTS"),
    ],
)
def test_settings_refuse_another_type_in_the_config_file(
    tmp_path: Path, line: str, name: str
) -> None:
    write_config(tmp_path, f"{line}\n")
    text = complaint(tmp_path)
    assert name in text
    assert "config.py" in text


def test_settings_never_show_a_secret(tmp_path: Path) -> None:
    assert "hunter 2" not in complaint(tmp_path, {"DTRAIN_ACCESS_TOKEN": "hunter 2"})


def test_settings_refuse_an_unknown_name_with_the_nearest_one(tmp_path: Path) -> None:
    write_config(tmp_path, "DATABASE_URI = 'sqlite:///app.db'\n")
    assert "did you mean DATABASE_URL?" in complaint(tmp_path)


def test_settings_leave_lower_case_and_private_names_alone(tmp_path: Path) -> None:
    write_config(tmp_path, "import os\n_BASE = 5000\noffset = 3\nDTRAIN_PORT = _BASE + offset\n")
    assert load(tmp_path, {}).port == 5003


def test_settings_refuse_a_misspelt_variable(tmp_path: Path) -> None:
    assert "did you mean DTRAIN_PORT?" in complaint(tmp_path, {"DTRAIN_PROT": "5001"})


def test_settings_ignore_the_variables_of_workers_and_others(tmp_path: Path) -> None:
    settings = load(tmp_path, {**WORKER_VARIABLES, "HOST": "x86_64-conda-linux", "PORT": "80"})
    assert (settings.host, settings.port) == ("127.0.0.1", 5000)


def test_settings_take_an_empty_text_for_nothing(tmp_path: Path) -> None:
    write_config(tmp_path, "SECRET_KEY = ''\nDATABASE_URL = None\n")
    settings = load(tmp_path, {"DTRAIN_PORT": "", "WORKER_SHARED_TOKEN": ""})
    assert settings.port == 5000
    assert len(settings.secret_key) >= 32
    assert len(settings.worker_shared_token) >= 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DTRAIN_PORT = 1\nDTRAIN_HOST = = 2\n", "line 2"),
        ("\n\nDTRAIN_PORT = 1 / 0\n", "line 3, cannot be read: ZeroDivisionError"),
        ("import no_such_module_at_all\n", "line 1"),
    ],
)
def test_settings_say_where_the_config_file_is_broken(
    tmp_path: Path, text: str, expected: str
) -> None:
    write_config(tmp_path, text)
    assert expected in complaint(tmp_path)


def test_secrets_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    first = load(tmp_path, {})
    again = load(tmp_path, {})
    assert first == again
    assert len({first.secret_key, first.worker_shared_token, first.access_token}) == 3
    written = {path.name: path.stat() for path in (tmp_path / "data").iterdir()}
    assert set(written) == {"secrets.json", "secrets.lock"}
    assert {stat.S_IMODE(status.st_mode) for status in written.values()} == {0o600}


def test_secrets_that_are_set_are_not_kept(tmp_path: Path) -> None:
    load(tmp_path, {"SECRET_KEY": "from outside"})
    assert "SECRET_KEY" not in json.loads((tmp_path / "data" / "secrets.json").read_text())


def test_secrets_gain_the_missing_one_and_keep_the_rest(tmp_path: Path) -> None:
    before = kept_secrets(tmp_path, ["ONE"])
    after = kept_secrets(tmp_path, ["ONE", "TWO"])
    assert after["ONE"] == before["ONE"]
    assert kept_secrets(tmp_path, ["TWO"]) == {"TWO": after["TWO"]}


def test_secrets_made_at_the_same_moment_are_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: kept_secrets(tmp_path, ["A", "B"])["A"], range(64)))
    assert len(set(found)) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"SECRET_KEY": 7}', "\xff"])
def test_secrets_that_are_damaged_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secrets.json").write_text(content, encoding="latin-1")
    assert "secrets.json is damaged" in complaint(tmp_path)


def test_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DTrainError, match=r"data folder .* cannot be used"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    "url", ["postgresql://u:p%40@h/n", "postgres://u:p%40@h/n", "postgresql+psycopg://u:p%40@h/n"]
)
def test_database_on_postgresql_names_its_driver(tmp_path: Path, url: str) -> None:
    settings = load(tmp_path, {"DATABASE_URL": url})
    assert settings.database_url == "postgresql+psycopg://u:p%40@h/n"
    assert settings.database_file is None


@pytest.mark.parametrize("name", ["plain", "with space", "50%20", "über", "what?", "a#b", "a@b:c"])
def test_database_file_lies_in_a_home_of_any_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    settings = load(home, {"DATABASE_URL": "sqlite:///app.db?timeout=5"})
    assert settings.database_file == home / "app.db"
    assert settings.database_url.endswith("?timeout=5")


@pytest.mark.parametrize(
    ("host", "address", "is_open"),
    [
        ("localhost", "127.0.0.1", True),
        ("127.0.0.5", "127.0.0.5", True),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("::", "::", False),
        ("192.0.2.7", "192.0.2.7", False),
    ],
)
def test_server_is_open_on_loopback_alone(
    tmp_path: Path, host: str, address: str, *, is_open: bool
) -> None:
    settings = load(tmp_path, {"DTRAIN_HOST": host})
    assert (settings.host, settings.open) == (address, is_open)


def test_server_is_not_open_if_an_access_token_is_set(tmp_path: Path) -> None:
    assert not load(tmp_path, {"DTRAIN_ACCESS_TOKEN": "0123456789abcdef"}).open


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("https://DTrain.example/", "https://dtrain.example"),
        ("https://dtrain.example:443", "https://dtrain.example"),
        ("http://dtrain.example:5000", "http://dtrain.example:5000"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_public_address_is_kept_in_its_shortest_form(
    tmp_path: Path, given: str, address: str
) -> None:
    settings = load(tmp_path, {"DTRAIN_PUBLIC_URL": given})
    assert settings.public_url == address
    assert not settings.open


@pytest.mark.parametrize("address", ["http://localhost:8080", "http://127.0.0.1"])
def test_server_with_a_public_address_on_loopback_stays_open(tmp_path: Path, address: str) -> None:
    assert load(tmp_path, {"DTRAIN_PUBLIC_URL": address}).open


def test_trusted_proxies_are_addresses_and_networks(tmp_path: Path) -> None:
    settings = load(tmp_path, {"DTRAIN_TRUSTED_PROXIES": "127.0.0.1, 10.1.0.0/16,::1"})
    assert [str(network) for network in settings.trusted_proxies] == [
        "127.0.0.1/32",
        "10.1.0.0/16",
        "::1/128",
    ]


def test_certificate_and_key_come_together_and_from_the_home_folder(tmp_path: Path) -> None:
    pair = {"DTRAIN_TLS_CERTIFICATE": "cert.pem", "DTRAIN_TLS_KEY": "/etc/key.pem"}
    settings = load(tmp_path, pair)
    assert settings.tls_certificate == tmp_path / "cert.pem"
    assert settings.tls_key == Path("/etc/key.pem")
    for name, value in pair.items():
        assert f"{name} is set and" in complaint(tmp_path, {name: value})


def test_shipped_config_explains_every_setting_and_changes_none(tmp_path: Path) -> None:
    text = (PROJECT / "server" / "config.py").read_text()
    for setting in SETTINGS:
        assert f"\n{setting.name} = " in text
    before = load(tmp_path, {})
    write_config(tmp_path, text)
    assert load(tmp_path, {}) == before
