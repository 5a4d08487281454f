"""All that a job's page tells and offers, in a real browser; the worker does what the test says."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from support.browser import SCREENSHOTS, has_stayed, stay, visit
from support.example_job import zip_of
from support.pictures import picture
from support.processes import PATIENCE, RunningServer, start_server, wait_for
from support.scripted_worker import Attempt, ScriptedWorker

from dtrain.client.client import Client
from dtrain.protocol import routes
from dtrain.protocol.messages import Job, JobUsage
from dtrain.protocol.worker_messages import AttemptUsage

MARKUP = "<img src=x onerror=window.pwned=1>"
SCRIPT = "<script>window.pwned=1</script>"
DRAWING = f'<svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=1">{SCRIPT}</svg>'
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> Iterator[RunningServer]:
    """One server for all tests of this file: starting one takes longer than most of them."""
    server = start_server(tmp_path_factory.mktemp("job-page") / "server")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(home: RunningServer) -> Iterator[Client]:
    with Client(home.url) as found:
        yield found


@pytest.fixture(scope="module")
def worker(home: RunningServer) -> Iterator[ScriptedWorker]:
    found = ScriptedWorker(home, name="first")
    yield found
    found.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    files = {"main.py": f"# {SCRIPT}\nprint('hello')\n", "src/net.py": "x = 1\n"}
    return zip_of(tmp_path / "bundle.zip", files)


def record(**values: Any) -> bytes:
    """A line that reports progress."""
    return b"PROGRESS: " + json.dumps(values).encode() + b"\n"


def take(worker: ScriptedWorker, job: Job) -> Attempt:
    """The next job, executing."""
    attempt = worker.take()
    assert attempt.job_id == job.id
    attempt.go_on()
    return attempt


def test_attempts_and_history_come_as_they_happen(
    page: Page, home: RunningServer, client: Client, worker: ScriptedWorker, bundle: Path
) -> None:
    job = client.submit(bundle, name="twice", max_retries=1, memory_gb=1, time_limit="1h")
    page.goto(f"{home.url}/jobs/{job.id}")
    expect(page.locator("connection-status")).to_have_text("Live")
    expect(page.locator("#job-head .meta")).to_contain_text("waits for")
    expect(page.locator("#job-attempts")).to_be_hidden()
    stay(page)

    attempt = take(worker, job)
    rows = page.locator("#job-attempts tbody tr")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Its script runs.")
    expect(page.get_by_text("Nothing is logged yet.")).to_be_visible()
    assert page.locator("[data-scroller]").evaluate("(log) => log.scrollHeight <= log.clientHeight")
    expect(page.locator("#job-head .meta")).to_contain_text("waited")
    attempt.log(b"first try\n" + record(epoch=1, epochs=100))
    attempt.log(record(epoch=2, epochs=100))
    expect(page.locator("#job-head [data-left]")).to_contain_text(re.compile(r"about \S+.* left"))
    attempt.finish(exit_code=3, traceback=f"Traceback:\nValueError: {MARKUP}")
    expect(rows.first).to_contain_text(f"The job exited with code 3. ValueError: {MARKUP}")
    expect(rows.first.get_by_role("meter")).to_have_attribute("aria-valuenow", "12")
    history = page.locator("#job-facts .history li")
    expect(history.filter(has_text="exited with code 3")).to_have_count(1)
    expect(history.filter(has_text="Attempt 1 taken by first")).to_have_count(1)

    again = take(worker, job)
    again.log(b"second try\n")
    expect(rows).to_have_count(2)
    expect(page.locator("log-view li")).to_have_text(["second try"])
    page.get_by_role("link", name="Log of attempt 1").click()
    expect(page.locator("log-view li").first).to_have_text("first try")
    expect(page.locator("log-view")).to_be_in_viewport()
    page.locator("log-view li a").first.click()
    expect(page).to_have_url(f"{home.url}/jobs/{job.id}#A1L1")
    page.reload()
    expect(page.locator("log-view li").first).to_have_text("first try")
    expect(page.locator("log-view li").first).to_have_attribute("data-linked", "")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="End at once").wait_for()
    expect(history.filter(has_text="Cancel asked for")).to_have_count(1)
    again.finish(exit_code=0)
    expect(page.locator("#job-head .state .pill")).to_have_text("completed")
    expect(rows.first).to_contain_text("It completed.")
    raw = page.request.get(f"{home.url}/jobs/{job.id}/log?attempt=2")
    assert raw.text() == "second try\n"


def test_curves_of_what_a_job_uses_grow_while_it_runs(
    page: Page, home: RunningServer, client: Client, worker: ScriptedWorker, bundle: Path
) -> None:
    job = client.submit(bundle, name="busy", memory_gb=2, cpus=2)
    attempt = take(worker, job)
    page.goto(f"{home.url}/jobs/{job.id}")
    expect(page.locator("connection-status")).to_have_text("Live")
    used = page.locator("job-usage")
    expect(used).to_be_hidden()
    tell_of_use(worker, attempt, gigabytes=0.5)
    expect(used.locator("canvas")).to_have_count(2)
    expect(used).to_contain_text("Memory GB of 2")
    expect(used).to_contain_text("CPU cores of 2")
    expect(used.locator("[data-metric=memory]")).to_have_text("0.5")
    stay(page)
    tell_of_use(worker, attempt, gigabytes=1.5)
    expect(used.locator("[data-metric=memory]")).to_have_text("1.5")
    attempt.finish()
    expect(page.locator("job-usage:not([live])")).to_be_visible()
    expect(used.locator("canvas")).to_have_count(2)
    has_stayed(page)


def tell_of_use(worker: ScriptedWorker, attempt: Attempt, gigabytes: float) -> None:
    """Poll until the server keeps what an attempt uses; not every poll is."""
    attempt.usage = AttemptUsage(cpu_time=1.0, memory=int(gigabytes * 1024**3))
    address = routes.path(routes.JOB_USAGE, job_id=attempt.job_id)

    def kept() -> bool:
        worker.commands()
        samples = worker.transport.request("GET", address).decode(JobUsage).samples
        return any(one.memory == int(gigabytes * 1024**3) for one in samples)

    wait_for(kept, "a sample of what the job uses")


def test_what_a_job_waits_for_changes_before_ones_eyes(
    page: Page, home: RunningServer, client: Client, worker: ScriptedWorker, bundle: Path
) -> None:
    job = client.submit(bundle, name="large", cpus=64, labels={"room": MARKUP})
    page.goto(f"{home.url}/jobs/{job.id}")
    wait = page.locator(".wait")
    expect(wait).to_contain_text("It is first in the queue.")
    expect(wait).to_contain_text("The job wants 64 CPUs, more than the worker has for jobs.")
    expect(wait).to_contain_text(f"The job wants the label room={MARKUP}; it has no such label.")
    stay(page)
    late = ScriptedWorker(home, name="late")
    other = client.submit(bundle, name="before it", cpus=64, priority=9)
    expect(wait.get_by_role("link", name="late")).to_be_visible()
    expect(wait).to_contain_text("Its place in the queue is 2: 1 job goes before it.")
    assert has_stayed(page)
    client.jobs.cancel(other.id)
    client.jobs.cancel(job.id)
    expect(wait).to_have_count(0)
    assert has_stayed(page)
    late.close()


def test_what_a_job_left_is_looked_through(
    page: Page, home: RunningServer, client: Client, worker: ScriptedWorker, bundle: Path
) -> None:
    job = client.submit(bundle, name=f"leaves {MARKUP}")
    attempt = take(worker, job)
    long_text = "".join(f"line {number}\n" for number in range(20_000))
    files = {
        "plots/loss.png": picture(),
        "plots/fake.png": f"<html>{SCRIPT}".encode(),
        "plots/drawing.svg": DRAWING.encode(),
        f"plots/{MARKUP.replace('/', '-')}.txt": f"\x1b[31mred\x1b[0m {SCRIPT}\n".encode(),
        "table.csv": f'epoch,loss,"a note"\n1,0.5,"{MARKUP}"\n2,0.25\n'.encode(),
        "config.json": b'{"lr":0.1,"layers":[1,2]}',
        "long.log": long_text.encode(),
        "model.npz": bytes(5000),
        "empty.txt": b"",
    }
    for path, content in files.items():
        attempt.leave(path, content)
    attempt.finish()

    def open_file(*names: str) -> None:
        page.goto(f"{home.url}/jobs/{job.id}")
        page.get_by_role("link", name="Artifacts", exact=True).click()
        for name in names:
            page.locator(".listing").get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(names[-1])

    page.goto(f"{home.url}/jobs/{job.id}")
    expect(page.locator("#job-facts .artifacts li")).to_have_count(len(files))
    open_file("plots", "loss.png")
    drawn = page.locator(".picture img")
    expect(drawn).to_be_visible()
    assert drawn.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 120
    open_file("plots", "fake.png")
    expect(page.locator(".source")).to_have_text(f"<html>{SCRIPT}")
    open_file("plots", "drawing.svg")
    expect(page.locator(".source")).to_have_text(DRAWING)
    assert page.locator("main svg[onload], main img, main object, main iframe").count() == 0
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "drawing.svg"
    assert Path(saved.value.path()).read_bytes() == DRAWING.encode()
    open_file("plots", f"{MARKUP}.txt")
    expect(page.locator(".source")).to_have_text(f"red {SCRIPT}")
    open_file("table.csv")
    expect(page.locator(".sheet thead th")).to_have_text(["epoch", "loss", "a note"])
    expect(page.locator(".sheet tbody tr").first.locator("td")).to_have_text(["1", "0.5", MARKUP])
    open_file("config.json")
    expect(page.locator(".source")).to_contain_text('\n  "lr": 0.1,\n', use_inner_text=True)
    open_file("long.log")
    expect(page.locator(".source")).to_contain_text("line 5000\n")
    expect(page.locator(".source")).not_to_contain_text("line 19999")
    expect(page.locator("main")).to_contain_text("This is the beginning")
    open_file("model.npz")
    expect(page.locator("main")).to_contain_text("there is nothing of it to show here")
    open_file("empty.txt")
    expect(page.locator("main")).to_contain_text("It is empty.")
    assert page.evaluate("window.pwned") is None

    # Whoever opens the bytes themselves, or what claims to be a picture, gets nothing that runs.
    for path in ("plots/drawing.svg", "plots/fake.png"):
        answer = page.request.get(f"{home.url}/api/jobs/{job.id}/artifacts/{path}")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] in {"application/octet-stream", "image/png"}


def test_bundle_is_looked_through_and_handed_in_again(
    browser: Browser, home: RunningServer, client: Client, worker: ScriptedWorker, bundle: Path
) -> None:
    spec: dict[str, Any] = {
        "args": ["--lr", "0.1 x", "it's"],
        "env": {"SEED": "7", "NOTE": "two words"},
        "tags": ["night"],
        "gpus": 1,
        "time_limit": "90m",
    }
    job = client.submit(bundle, name=f"again {SCRIPT}", **spec)
    permissions = ["clipboard-read", "clipboard-write"]
    with visit(browser, permissions=permissions) as page:
        page.goto(f"{home.url}/jobs/{job.id}")
        page.get_by_role("link", name="2 files", exact=True).click()
        page.get_by_role("link", name="main.py").click()
        expect(page.locator(".source")).to_contain_text(f"# {SCRIPT}")
        with page.expect_download() as saved:
            page.get_by_role("link", name="Download").click()
        assert Path(saved.value.path()).read_text() == f"# {SCRIPT}\nprint('hello')\n"

        page.goto(f"{home.url}/jobs/{job.id}")
        page.locator("copy-button[for=clone-command] button").click()
        expect(page.locator("copy-button[for=clone-command]")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == f"dtrain clone {job.id}"
        expect(page.locator("#submit-command")).to_contain_text(f"dtrain bundle {job.id} -o")
        page.get_by_role("link", name="Clone with changes").click()
        expect(page.get_by_label("Arguments")).to_have_value("--lr\n0.1 x\nit's")
        expect(page.get_by_label("Time limit")).to_have_value("90m")
        page.get_by_label("Name", exact=True).fill("another")
        page.get_by_label("GPUs").fill("many")
        page.get_by_label("Tags").fill("")
        page.get_by_role("button", name="Submit job").click()
        expect(page.get_by_role("alert")).to_contain_text("gpus")
        expect(page.get_by_label("Name", exact=True)).to_have_value("another")
        page.get_by_label("GPUs").fill("2")
        page.get_by_role("button", name="Submit job").click()
        page.wait_for_url(re.compile(rf"/jobs/(?!{job.id}$)\d+$"))
        new = client.jobs.get(int(page.url.rpartition("/")[2]))
        assert page.evaluate("window.pwned") is None
    earlier = client.jobs.get(job.id)
    assert (new.name, new.spec.gpus, new.spec.tags) == ("another", 2, [])
    assert (new.spec.args, new.spec.env) == (earlier.spec.args, earlier.spec.env)
    assert (new.spec.time_limit, new.bundle.sha256) == (5400.0, earlier.bundle.sha256)
    assert new.bundle.sha256 == hashlib.sha256(bundle.read_bytes()).hexdigest()
    for one in (job, new):
        client.jobs.cancel(one.id)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_job_looks_as_it_should(
    browser: Browser,
    home: RunningServer,
    client: Client,
    worker: ScriptedWorker,
    bundle: Path,
    scheme: Any,
) -> None:
    """Nothing is too wide or jumps; the pictures are kept for people to look at."""
    job = client.submit(bundle, name="digits, a small network", memory_gb=0.25, max_retries=2)
    attempt = take(worker, job)
    attempt.log(b"loads the data\n")
    attempt.finish(exit_code=1, traceback="Traceback:\nValueError: no file data/digits.npz")
    attempt = take(worker, job)
    tell_of_an_hour(home, attempt)
    for epoch in range(1, 8):
        attempt.log(b"Epoch %d/20\n" % epoch + record(epoch=epoch, epochs=20, loss=2 / epoch))
    attempt.leave("plots/confusion.png", picture())
    attempt.leave("metrics.csv", b"epoch,loss,accuracy\n" + b"1,0.5,0.25\n" * 60)
    attempt.leave("model.npz", bytes(123_456))
    waiting = client.submit(bundle, name="wide", gpus=2, labels={"room": "lab"})
    pages = {
        "job": f"/jobs/{job.id}",
        "waiting": f"/jobs/{waiting.id}",
        "artifacts": f"/jobs/{job.id}/artifacts",
        "table": f"/jobs/{job.id}/artifacts?path=metrics.csv",
        "picture": f"/jobs/{job.id}/artifacts?path=plots/confusion.png",
        "bundle": f"/jobs/{job.id}/bundle?path=main.py",
        "clone": f"/jobs/{waiting.id}/clone",
        "history": f"/jobs/{job.id}/history",
    }
    SCREENSHOTS.mkdir(exist_ok=True)
    for width in (360, 1280, 2560):
        viewport: Any = {"width": width, "height": 900}
        with visit(browser, viewport=viewport, color_scheme=scheme) as page:
            page.add_init_script(SHIFTS)
            for name, path in pages.items():
                page.goto(home.url + path)
                if name == "job":
                    expect(page.locator("metric-chart canvas")).to_have_count(3)
                    expect(page.locator("connection-status")).to_have_text("Live")
                wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wider <= 0, f"{name} is {wider} pixels too wide at {width}"
                assert page.evaluate("window.shifts") < 0.1, f"{name} jumps at {width}"
                shot = SCREENSHOTS / f"job-{name}-{width}-{scheme}.png"
                page.screenshot(path=shot, full_page=True)
    with visit(browser, java_script_enabled=False, color_scheme=scheme) as page:
        page.goto(home.url + pages["job"])
        expect(page.locator("#job-attempts tbody tr")).to_have_count(2)
        page.get_by_role("link", name="metrics.csv", exact=True).click()
        expect(page.locator(".sheet tbody tr")).to_have_count(50)
    attempt.finish()
    client.jobs.cancel(waiting.id)


def tell_of_an_hour(home: RunningServer, attempt: Attempt) -> None:
    """Store samples as if the attempt had begun an hour ago, of an epoch every six minutes."""
    now = time.time()
    key = (attempt.job_id, attempt.assignment.attempt)
    rows = []
    for second in range(0, 3600, 10):
        epoch, rest = divmod(second, 360)
        cpu_time = epoch * 960 + min(rest, 300) * 3.2
        memory = (120 + 8 * epoch + (30 if rest > 300 else 0)) * 1024**2
        usage = AttemptUsage(cpu_time=cpu_time, memory=memory)
        rows.append((*key, now - 3600 + second, msgspec.json.encode(usage).decode()))
    (file,) = (path for path in home.home.rglob("*.db") if "before" not in path.name)
    with closing(sqlite3.connect(file, timeout=PATIENCE)) as connection, connection:
        connection.executemany("INSERT INTO attempt_samples VALUES (?, ?, ?, ?)", rows)
        connection.execute(
            "UPDATE attempts SET sampled_at = ?, claimed_at = claimed_at - 3600"
            " WHERE job_id = ? AND number = ?",
            (now, *key),
        )
