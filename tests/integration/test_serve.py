"""The server as processes: how it starts, refuses to start, ends, and bears what clients do."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support.application import bundle, registration
from support.processes import (
    PATIENCE,
    RunningServer,
    clean_environment,
    free_port,
    start_server,
    wait_for,
)

from dtrain.protocol import routes

MEBIBYTE = 1024**2


def serving_process(server: RunningServer) -> psutil.Process:
    (child,) = psutil.Process(server.pid).children()
    return child


def start_in_vain(home: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Start a server that must end by itself."""
    home.mkdir(exist_ok=True)
    given = {"DTRAIN_PORT": free_port(), **settings}
    environment = clean_environment() | {name: str(value) for name, value in given.items()}
    return subprocess.run(
        [sys.executable, "-m", "dtrain", "server", home],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], pattern: str) -> None:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert re.fullmatch(pattern + r"\n", done.stderr), done.stderr


@contextmanager
def connection(server: RunningServer) -> Iterator[http.client.HTTPConnection]:
    found = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def stream(server: RunningServer, path: str = routes.STREAM) -> Iterator[http.client.HTTPResponse]:
    """An open live stream, its first bytes read."""
    with connection(server) as client:
        client.request("GET", path)
        answer = client.getresponse()
        assert answer.status == 200
        assert answer.readline() == b"retry: 2000\n"
        yield answer


def post(server: RunningServer, path: str, message: object, token: str) -> tuple[int, bytes]:
    with connection(server) as client:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        client.request("POST", path, json.dumps(message), headers)
        answer = client.getresponse()
        return answer.status, answer.read()


def gauge(server: RunningServer, name: str) -> float:
    found = re.search(rf"^{name} (.*)$", server.read("/metrics").decode(), re.MULTILINE)
    assert found
    return float(found[1])


class HeldPoll:
    """A worker's poll that waits at the server."""

    def __init__(self, server: RunningServer) -> None:
        _, body = post(server, routes.REGISTER, registration(), server.token)
        registered = json.loads(body)
        message = {
            "session": registered["session"],
            "number": 1,
            "wait": 60,
            "capacity": registration()["capacity"],
            "metrics": {},
            "attempts": [],
            "next_secret": "s" * 43,
            "asks": False,
        }
        self.status = 0
        self._arguments = (server, routes.POLL, message, registered["credential"])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_for(lambda: gauge(server, "dtrain_held_polls") == 1, "the poll to be held")

    def _run(self) -> None:
        self.status, _ = post(*self._arguments)

    def wait(self) -> int:
        self._thread.join(PATIENCE)
        return self.status


def test_server_says_where_it_is_and_how_a_worker_comes(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", WORKER_SHARED_TOKEN="your-worker-token")
    wait_for(lambda: "reach it" in server.text(), "the announcement")
    text = server.text()
    url = f"http://localhost:{server.port}"
    assert f"http://localhost:{server.port} " in text
    assert str(tmp_path / "home" / "data") in text
    variables = f"DTRAIN_SERVER_URL={url} DTRAIN_WORKER_TOKEN=your-worker-token"
    assert f"\n    {variables} python agent.py\n" in text
    server.read("/")
    assert "GET /" not in server.text()
    assert "Traceback" not in server.text()


def test_server_shows_the_access_token_where_it_is_asked_for(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", DTRAIN_ACCESS_TOKEN="0123456789abcdef")
    wait_for(lambda: "0123456789abcdef" in server.text(), "the announcement")


def test_server_shows_each_request_in_debug_mode(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", DTRAIN_DEBUG="true")
    with connection(server) as client:
        client.request("GET", "/api/jobs/%0d%0a%1b[31mforged?token=secret")
        client.getresponse().read()
    wait_for(lambda: "GET /api/jobs/" in server.text(), "the request in the log")
    assert "\x1b" not in server.text()
    assert "secret" not in server.text()


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"DTRAIN_PORT": "http"}, ".*DTRAIN_PORT.*"),
        ({"DTRAIN_PROT": "5001"}, ".*did you mean DTRAIN_PORT.*"),
        ({"DATABASE_URL": "sqlite:////proc/no/such/folder/x.db"}, ".*/proc/no/such/folder.*"),
        ({"JOB_BUNDLES_FOLDER": "/proc/bundles"}, ".*/proc/bundles.*"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, ".*database does not answer.*"),
        ({"DTRAIN_HOST": "192.0.2.1"}, ".*DTRAIN_HOST is 192.0.2.1.*"),
    ],
)
def test_server_refuses_settings_with_one_sentence(
    tmp_path: Path, settings: dict[str, str], pattern: str
) -> None:
    assert_one_sentence(start_in_vain(tmp_path / "home", **settings), pattern)


def test_second_server_on_the_same_data_refuses(server: RunningServer) -> None:
    done = start_in_vain(server.home, DTRAIN_PORT=free_port())
    assert_one_sentence(done, "Another DTrain server is using the data in .*")
    assert server.json("/api/jobs")["jobs"] == []


def test_second_server_on_the_same_database_file_refuses(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db"
    start_server(tmp_path / "one", DATABASE_URL=url)
    done = start_in_vain(tmp_path / "two", DATABASE_URL=url, DTRAIN_PORT=free_port())
    assert_one_sentence(done, "Another DTrain server is using the data in .*")


def test_servers_started_together_leave_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-m", "dtrain", "server", str(home)]
    processes = []
    with ExitStack() as stack:
        for number in range(4):
            output = stack.enter_context((tmp_path / f"{number}.log").open("w"))
            environment = clean_environment() | {"DTRAIN_PORT": str(free_port())}
            processes.append(subprocess.Popen(command, env=environment, stderr=output))
        try:
            ended = wait_for(
                lambda: (
                    (done := [p for p in processes if p.poll() is not None])
                    and len(done) == 3
                    and done
                ),
                "three of four servers to give up",
            )
        finally:
            for process in processes:
                process.terminate()
                process.wait(PATIENCE)
    assert [process.returncode for process in ended] == [2, 2, 2]
    texts = [(tmp_path / f"{number}.log").read_text() for number in range(4)]
    assert sum("Another DTrain server" in text for text in texts) == 3
    assert not any("Traceback" in text for text in texts)


@pytest.mark.parametrize("listener", ["a DTrain server", "another program"])
def test_taken_port_is_said_with_the_setting(
    tmp_path: Path, server: RunningServer, listener: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = server.port if listener == "a DTrain server" else other.getsockname()[1]
        done = start_in_vain(tmp_path / "home", DTRAIN_PORT=port)
    assert_one_sentence(done, rf"Port {port} is taken .* DTRAIN_PORT.*")


def test_of_two_servers_that_start_at_once_one_has_the_port(tmp_path: Path) -> None:
    port = free_port()
    environment = clean_environment() | {"DTRAIN_PORT": str(port)}
    homes = [tmp_path / "one", tmp_path / "other"]
    for home in homes:
        home.mkdir()
    servers = [
        subprocess.Popen(
            [sys.executable, "-m", "dtrain", "server", home],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for home in homes
    ]
    refused = wait_for(lambda: [one for one in servers if one.poll() is not None], "a refusal")
    assert [one.returncode for one in refused] == [2]
    _, words = refused[0].communicate()
    assert f"Port {port} is taken" in words
    (serving,) = [one for one in servers if one is not refused[0]]
    serving.terminate()
    serving.communicate(timeout=PATIENCE)
    assert serving.returncode == 0


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home")
    server.stop()
    with sqlite3.connect(tmp_path / "home" / "data" / "dtrain.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    done = start_in_vain(tmp_path / "home", DTRAIN_PORT=free_port())
    assert_one_sentence(done, ".* newer version of DTrain.*")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_server_and_whatever_it_holds(
    server: RunningServer, number: signal.Signals
) -> None:
    lower = serving_process(server)
    poll = HeldPoll(server)
    with stream(server) as changes, connection(server) as idle:
        idle.request("GET", "/healthz")
        idle.getresponse().read()
        os.kill(server.pid, number)
        assert server.process.wait(PATIENCE) == 0
        assert changes.read() is not None
    assert poll.wait() == 200
    assert not lower.is_running()
    assert "Traceback" not in server.text()
    assert (server.home / "data" / "dtrain.db").exists()


def test_interrupt_from_a_terminal_reaches_both_processes(server: RunningServer) -> None:
    os.killpg(server.pid, signal.SIGINT)
    assert server.process.wait(PATIENCE) == 0
    assert "Traceback" not in server.text()


def test_end_does_not_wait_for_a_stalled_upload(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        head = "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        client.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x".encode())
        time.sleep(0.2)
        server.process.terminate()
        server.process.wait(PATIENCE)


def test_kill_of_the_upper_process_takes_the_lower_one_along(server: RunningServer) -> None:
    lower = serving_process(server)
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not lower.is_running() or lower.status() == "zombie", "its end")
    server.restart()
    assert server.json("/api/jobs")["jobs"] == []


def test_death_of_the_lower_process_ends_the_upper_one(server: RunningServer) -> None:
    serving_process(server).kill()
    assert server.process.wait(PATIENCE) == 1
    assert "The serving process has ended" in server.text()


def test_body_that_breaks_off_is_not_taken_for_a_whole_one(server: RunningServer) -> None:
    boundary = "x"
    field = 'Content-Disposition: form-data; name="name"\r\n\r\na job'
    file = 'Content-Disposition: form-data; name="file"; filename="b.zip"\r\n\r\n'
    whole = f"--{boundary}\r\n{field}\r\n--{boundary}\r\n{file}".encode() + bundle()
    head = (
        "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(whole) + 1000}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + whole + f"\r\n--{boundary}--\r\n".encode())
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    time.sleep(0.5)
    assert server.json("/api/jobs")["jobs"] == []


def test_large_upload_is_not_held_in_memory(server: RunningServer) -> None:
    lower = serving_process(server)
    before = lower.memory_info().rss
    piece = b"\0" * MEBIBYTE
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="b.zip"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(300):
            yield piece
        yield b"\r\n--x--\r\n"

    with connection(server) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        client.request("POST", "/api/jobs", body(), headers, encode_chunked=True)
        answer = client.getresponse()
        assert answer.status == 422, answer.read()
    peak = (
        int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{lower.pid}/status").read_text())[1]) * 1024
    )
    assert peak - before < 60 * MEBIBYTE
    assert shutil.disk_usage(server.home).free > 0
    left = [path for path in (server.home / "data" / "bundles").rglob("*") if path.is_file()]
    assert left == []


def test_followers_who_leave_are_forgotten(server: RunningServer) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(stream(server))
        assert gauge(server, "dtrain_streams") == 5

    def all_have_left() -> bool:
        # Something to send is how the server notices.
        post(server, routes.REGISTER, registration(), server.token)
        return gauge(server, "dtrain_streams") == 0

    wait_for(all_have_left, "the streams to be closed")


def test_pages_are_served_beside_many_streams(tmp_path: Path) -> None:
    server = start_server(tmp_path / "home", DTRAIN_MAX_STREAMS=150)
    with ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(stream(server))
        with connection(server) as client:
            client.request("GET", routes.STREAM)
            refused = client.getresponse()
            assert refused.status == 503
            assert json.loads(refused.read())["code"] == "too_many_streams"
        for _ in range(20):
            server.read("/")


def test_peer_that_vanishes_is_noticed_by_the_kernel(server: RunningServer) -> None:
    def has_keepalive_timer() -> bool:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096)
            ends = f"{server.port:04X}", f"{client.getsockname()[1]:04X}"
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                _, local, remote, _, _, timer, *_ = line.split()
                if (local[-4:], remote[-4:]) == ends:
                    return timer.startswith("02:")
        raise AssertionError("The connection is not there.")

    wait_for(has_keepalive_timer, "the server to watch its connections")


def test_stalled_clients_keep_nobody_from_being_served(server: RunningServer) -> None:
    with ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            if number % 3 == 0:
                client.sendall(b"GET /api/jobs HTTP/1.1\r\nHost: loc")
            elif number % 3 == 1:
                client.sendall(
                    b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                )
                client.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n-")
        for _ in range(20):
            assert server.json("/api/jobs")["jobs"] == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
        b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_odd_requests_are_refused_and_change_nothing(server: RunningServer, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        answer = b""
        with suppress(ConnectionError):
            client.sendall(head)
            with suppress(OSError):  # it has been closed already
                client.shutdown(socket.SHUT_WR)
            answer = client.recv(4096)
    assert answer == b"" or re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer
    assert server.read("/healthz") == b"ok\n"
    assert "Traceback" not in server.text()


def test_run_folder_serves_with_two_words(tmp_path: Path) -> None:
    """`python app.py`, in a copy of the project's folder `server`."""
    home = tmp_path / "server"
    shutil.copytree(
        Path(__file__).parents[2] / "server", home, ignore=shutil.ignore_patterns("data")
    )
    port = free_port()
    environment = clean_environment() | {"DTRAIN_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=home, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert f"http://localhost:{port} " in process.stdout.readline()
        with socket.create_connection(("localhost", port)):
            pass
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        process.stdout.close()
    assert (home / "data" / "dtrain.db").exists()
