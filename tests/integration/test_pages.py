"""The pages as HTML, over a real store: whole without JavaScript, and safe with anything in it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.application import (
    ACCESS_TOKEN,
    CAPACITY,
    WIDE,
    Agent,
    Application,
    application,
    form,
    upload,
)
from support.checks import ROOT
from werkzeug.test import TestResponse

from dtrain.protocol import routes

HOSTILE = "<script>alert(1)</script>\"'&{{9999*9999}}"
TRACEBACK = "Traceback (most recent call last):\nValueError: <b>no</b>"


class Markup(HTMLParser):
    """The elements of a page, to look for what a strict policy forbids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = 0
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"} and data.strip():
            self.inline += 1

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


@pytest.fixture
def agent(site: Application) -> Agent:
    return Agent(site.client)


def page(site: Application, path: str, status: int = 200) -> str:
    answer = site.client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "text/html"
    return answer.text


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def run(site: Application, agent: Agent, log: bytes = b"", name: str = "a job") -> int:
    """A job that executes and has logged something."""
    job_id: int = site.submit(name)["id"]
    agent.claim()
    agent.report("POST", routes.ATTEMPT_PHASE, json={"phase": "executing"})
    agent.report("POST", f"{routes.ATTEMPT_LOG}?offset=0", data=log)
    return job_id


def finish(agent: Agent, **changes: Any) -> None:
    message = {"cause": "exited", "exit_code": 0, **changes}
    assert agent.report("POST", routes.ATTEMPT_FINISH, json=message).status_code in {200, 202}


def hand_in(
    site: Application, headers: dict[str, str] | None = None, **fields: Any
) -> TestResponse:
    return site.client.post("/jobs", headers=headers, **form(fields))


# `/`


def test_dashboard_without_jobs_teaches_the_first_submit(site: Application) -> None:
    html = page(site, "/")
    assert "curl -X POST http://localhost/api/jobs" in html
    assert 'export DTRAIN_SERVER_URL="http://localhost"\ndtrain submit' in unescape(html)
    assert "Bearer" not in html


def test_dashboard_of_a_server_that_wants_a_token_says_where_it_goes(tmp_path: Path) -> None:
    with application(tmp_path, WIDE) as site:
        site.client.post("/login", data={"token": ACCESS_TOKEN})
        html = unescape(page(site, "/"))
    assert '-H "Authorization: Bearer …"' in html
    assert 'export DTRAIN_TOKEN="…"\ndtrain submit' in html
    assert ACCESS_TOKEN not in html


def test_dashboard_lists_jobs_newest_first(site: Application) -> None:
    site.submit("older job", tags="red, blue")
    site.submit("newer job")
    html = page(site, "/")
    assert html.index("newer job") < html.index("older job")
    assert "Pending 2" in text_of(html)
    assert 'href="/?tag=red"' in html


def test_dashboard_filters_by_the_address(site: Application, agent: Agent) -> None:
    run(site, agent, name="taken job")
    site.submit("waiting job", tags="red")
    for query, shown in (
        ("status=running", "taken"),
        ("status=pending", "waiting"),
        ("tag=red", "waiting"),
        ("worker=w", "taken"),
        ("q=TAKEN", "taken"),
    ):
        html = page(site, f"/fragments/jobs?{query}")
        assert [name in html for name in ("taken job", "waiting job")] == [
            name == shown for name in ("taken", "waiting")
        ], query


def test_order_of_running_jobs_hides_no_others(site: Application, agent: Agent) -> None:
    run(site, agent, b"")
    site.submit(name="waits")
    html = page(site, "/?status=pending&sort=longest")
    assert 'data-job="2"' in html
    assert 'data-job="1"' not in html
    assert "Only running jobs can be sorted" in html
    assert "Only running" not in page(site, "/?sort=longest")
    assert 'data-job="1"' in page(site, "/?status=running&sort=longest")


def test_tabs_count_only_while_all_jobs_of_a_status_are_shown(site: Application) -> None:
    site.submit(name="one", tags=["red"])
    assert 'class="count"' in page(site, "/?status=pending")
    for narrowed in ("tag=red", "q=one", "worker=w", "submitter=Ada"):
        html = page(site, f"/?{narrowed}")
        assert "Pending" in html
        assert 'class="count"' not in html


def test_dashboard_says_when_nothing_matches(site: Application) -> None:
    site.submit("a job")
    assert "No job matches" in page(site, "/?status=failed")


def test_dashboard_pages_by_cursor(site: Application) -> None:
    for number in range(51):
        site.submit(f"job-{number:02}")
    first = page(site, "/")
    assert "job-50" in first
    assert "job-00" not in first
    (older,) = [a["href"] for a in Markup(first).all("a") if a.get("rel") == "next"]
    second = page(site, older or "")
    assert "job-00" in second
    assert "job-01" not in second


@pytest.mark.parametrize("query", ["status=odd", "cursor=x", "q=%00", "tag=%00a", "worker=%00"])
def test_dashboard_refuses_a_filter_with_a_sentence(site: Application, query: str) -> None:
    html = page(site, f"/?{query}", 422)
    assert "<h1>Unprocessable" in html


@pytest.mark.parametrize("path", ["/jobs", "/jobs/actions"])
def test_addresses_of_forms_lead_to_the_list(site: Application, path: str) -> None:
    answer = site.client.get(path)
    assert (answer.status_code, answer.location) == (303, "/")


def test_fragment_is_what_the_page_holds(site: Application, agent: Agent) -> None:
    job_id = run(site, agent, b'PROGRESS: {"epoch": 1, "epochs": 4, "loss": 0.5}\n')
    shown = re.sub(r">\d+s( ago)?<|>just now<", "><", page(site, "/"))
    part = re.sub(r">\d+s( ago)?<|>just now<", "><", page(site, "/fragments/jobs"))
    assert part.strip() in shown
    assert "25%" in part
    assert f'data-job="{job_id}"' in part


# The form.


def test_form_hands_in_a_job(site: Application) -> None:
    answer = hand_in(site, name="from the form", args="--epochs=3\r\n-v", tags="a,b", file=upload())
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/jobs/1"
    spec = site.client.get("/api/jobs/1").json["spec"]
    assert (spec["name"], spec["args"], spec["tags"]) == (
        "from the form",
        ["--epochs=3", "-v"],
        ["a", "b"],
    )


def test_form_names_a_job_after_its_file(site: Application) -> None:
    hand_in(site, name="", file=upload(name="work/My Job.ZIP"))
    assert site.client.get("/api/jobs/1").json["name"] == "My Job"


def test_form_sends_a_script_on_to_the_job(site: Application) -> None:
    answer = hand_in(site, {"HX-Request": "true"}, name="x", file=upload())
    assert answer.status_code == 204
    assert answer.headers["HX-Redirect"] == "/jobs/1"


def test_form_that_is_refused_keeps_what_was_entered(site: Application) -> None:
    answer = hand_in(
        site, name='my "job"', cpus="many", env="A=1\nB=2", executor="docker", file=upload()
    )
    assert answer.status_code == 422
    markup = Markup(answer.text)
    fields = {one.get("name"): one for tag in ("input", "textarea") for one in markup.all(tag)}
    assert fields["name"]["value"] == 'my "job"'
    assert fields["cpus"]["value"] == "many"
    assert fields["cpus"]["aria-invalid"] == "true"
    assert "form-error" in (fields["cpus"]["aria-describedby"] or "")
    assert "A=1\nB=2" in answer.text
    assert "The field cpus is not acceptable" in answer.text
    assert [one for one in markup.all("details") if "open" in one and one.get("class") == "more"]
    assert site.client.get("/api/jobs").json["jobs"] == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "Choose the ZIP file"), (b"not a zip", "ZIP"), (b"", "ZIP")],
)
def test_form_says_what_is_wrong_with_the_file(
    site: Application, content: bytes | None, sentence: str
) -> None:
    file = {} if content is None else {"file": upload(content)}
    answer = hand_in(site, name="x", **file)
    assert answer.status_code == 422
    (complaint,) = re.findall(r'id="form-error".*?<span>(.*?)</span>', answer.text, re.DOTALL)
    assert sentence in complaint
    fields = {one.get("name"): one for one in Markup(answer.text).all("input")}
    assert fields["file"]["aria-invalid"] == "true"


def test_form_refuses_a_field_that_there_is_not(site: Application) -> None:
    answer = hand_in(site, name="x", colour="red", file=upload())
    assert answer.status_code == 422
    assert "colour" in answer.text


# `/jobs/<id>`


def test_job_that_waits_says_why(site: Application, agent: Agent) -> None:
    agent.call("POST", routes.POLL, json=agent.poll_message())
    job_id = site.submit("big", gpus="2", labels="room=lab")["id"]
    text = text_of(page(site, f"/jobs/{job_id}"))
    assert "Why it waits" in text
    assert "It is first in the queue." in text
    assert "The job wants 2 GPUs, more than the worker has for jobs." in text
    assert "Nothing is logged yet." in text


def test_job_that_runs_shows_its_progress_and_log(site: Application, agent: Agent) -> None:
    log = b'hello\nPROGRESS: {"epoch": 1, "epochs": 4, "loss": 0.5}\nERROR: oh\nunfinished'
    job_id = run(site, agent, log)
    html = page(site, f"/jobs/{job_id}")
    assert 'value="0.25"' in html
    assert '<metric-chart id="chart-1"' in html
    lines = re.findall(r'<li data-level="(\w+)" data-line="(\d+)"( data-open)?>(.*?)</li>', html)
    assert lines == [
        ("INFO", "1", "", "hello"),
        (
            "PROGRESS",
            "2",
            "",
            "PROGRESS: {&#34;epoch&#34;: 1, &#34;epochs&#34;: 4, &#34;loss&#34;: 0.5}",
        ),
        ("ERROR", "3", "", "ERROR: oh"),
        ("INFO", "4", " data-open", "unfinished"),
    ]
    (view,) = Markup(html).all("log-view")
    assert (view["offset"], view["next"], view["attempt"]) == (str(len(log)), "3", "1")


def test_job_that_completed_has_no_bar_that_says_less(site: Application, agent: Agent) -> None:
    job_id = run(site, agent, b'PROGRESS: {"step": 99, "steps": 100}\n')
    assert "99%</span>" in page(site, f"/jobs/{job_id}")
    finish(agent)
    assert "99%</span>" not in page(site, f"/jobs/{job_id}")


def test_job_shows_the_end_of_a_long_log(site: Application, agent: Agent) -> None:
    job_id = run(site, agent, b"".join(b"line %d\n" % number for number in range(1500)))
    html = page(site, f"/jobs/{job_id}")
    assert "line 1499<" in html
    assert "line 499<" not in html
    assert not [one for one in Markup(html).all("p") if "data-earlier" in one and "hidden" in one]


def test_job_that_failed_shows_why(site: Application, agent: Agent) -> None:
    job_id = run(site, agent, b"")
    finish(agent, exit_code=3, traceback=TRACEBACK)
    html = page(site, f"/jobs/{job_id}")
    assert "Exit nonzero" in html
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in html
    assert f'action="/jobs/{job_id}/retry"' in html
    assert f'action="/jobs/{job_id}/cancel"' not in html


def test_job_shows_what_it_left(site: Application, agent: Agent) -> None:
    job_id = run(site, agent, b"")
    content = b"\x89PNG"
    digest = "0f4636c78f65d3639ece5a064b5ae753e3408614a14fb18ab4d7540d2c248543"
    info = {"path": "plots/a b#.png", "size": len(content), "sha256": digest}
    put = agent.report(
        "PUT",
        f"{routes.ATTEMPT_ARTIFACT}?sha256={digest}",
        parts={"path": info["path"]},
        data=content,
    )
    assert put.status_code == 204, put.text
    finish(agent, artifacts=[info])
    html = page(site, f"/jobs/{job_id}")
    (image,) = Markup(html).all("img")
    assert image["src"] == f"/api/jobs/{job_id}/artifacts/plots/a%20b%23.png"
    assert site.client.get(image["src"] or "").data == content


def test_job_fragment_holds_its_changing_parts(site: Application, agent: Agent) -> None:
    job_id = run(site, agent, b'PROGRESS: {"loss": 0.5}\n')
    html = page(site, f"/fragments/jobs/{job_id}")
    for part in ("job-head", "job-charts", "job-facts"):
        assert f'id="{part}"' in html
    assert "<log-view" not in html
    assert 'data-state="running executing 1 0 false"' in html


def test_job_can_be_cancelled_and_retried(site: Application) -> None:
    job_id = site.submit("x")["id"]
    answer = site.client.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/jobs/{job_id}")
    assert "The job was cancelled." in page(site, f"/jobs/{job_id}")
    answer = site.client.post(f"/jobs/{job_id}/retry")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/jobs/{job_id + 1}")
    assert f'href="/jobs/{job_id}">#{job_id}</a>' in page(site, f"/jobs/{job_id + 1}")


def test_raw_log_is_what_the_job_wrote(site: Application, agent: Agent) -> None:
    log = b"\x1b[31m\xff\r\n<script>\x00"
    job_id = run(site, agent, log)
    answer = site.client.get(f"/jobs/{job_id}/log")
    assert answer.data == log
    assert answer.mimetype == "text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/jobs/7", "/fragments/jobs/7", "/jobs/7/log", f"/jobs/{2**63}"])
def test_job_that_there_is_not_is_an_error_page(site: Application, path: str) -> None:
    assert "<h1>Not Found</h1>" in page(site, path, 404)


# `/workers`


def test_workers_without_any_says_how_to_join(site: Application) -> None:
    html = page(site, "/workers")
    assert "DTRAIN_SERVER_URL=http://localhost DTRAIN_WORKER_TOKEN=… python agent.py" in html
    assert "python agent.py" in html


def test_workers_shows_what_they_have_and_do(site: Application) -> None:
    agent = Agent(site.client, name=HOSTILE[:90])
    job_id = run(site, agent, name="what runs")
    gpu = {"index": 0, "uuid": "GPU-0", "name": "RTX <b>", "memory": 24 * 1024**3}
    protection = {
        "memory": "cgroup",
        "cpu": "cgroup",
        "pids": False,
        "uid": True,
        "pid_namespace": True,
        "filesystem": True,
    }
    isolated = {"isolation": "namespace", "protection": protection}
    capacity = {**CAPACITY, "gpus": [gpu], "labels": {"room": "lab"}, **isolated}
    metrics = {
        "cpu_percent": 42.0,
        "memory_used": 2 * 1024**3,
        "memory_total": 8 * 1024**3,
        "disk_used": 10**9,
        "disk_total": 10**11,
        "gpus": [
            {"utilisation": 87.0, "memory_used": 1024**3, "temperature": 61.0, "power": 120.0}
        ],
    }
    attempt = {
        "job_id": job_id,
        "attempt": 1,
        "secret": agent.secret,
        "phase": "executing",
    }
    message = agent.poll_message(capacity=capacity, metrics=metrics, attempts=[attempt])
    agent.call("POST", routes.POLL, json=message | {"next_secret": "n" * 43})
    text = text_of(page(site, "/workers"))
    for words in (
        "online",
        "1 of 1",
        "42% of 4",
        "2 GB of 8 GB",
        "1.0 GB of 100 GB",
        "RTX &lt;b&gt; 61 °C, 120 W",
        "87%",
        "namespace",
        "a job has its own user, processes and files; cgroups hold limits of memory and CPUs",
        "room=lab",
        f"#{job_id} what runs",
    ):
        assert words in text, words


def test_worker_can_be_drained_and_resumed(site: Application, agent: Agent) -> None:
    agent.call("POST", routes.POLL, json=agent.poll_message())
    answer = site.client.post(f"/workers/{agent.id}/drain")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/workers")
    html = page(site, "/workers")
    assert f'action="/workers/{agent.id}/resume"' in html
    site.client.post(f"/workers/{agent.id}/resume")
    assert f'action="/workers/{agent.id}/drain"' in page(site, "/workers")


@pytest.mark.parametrize("worker", ["nobody", "%00", "00000000-0000-0000-0000-000000000000"])
def test_worker_that_there_is_not_is_an_error_page(site: Application, worker: str) -> None:
    answer = site.client.post(f"/workers/{worker}/drain")
    assert answer.status_code == 404
    assert answer.mimetype == "text/html"


# All pages.


def test_nothing_hostile_becomes_markup(site: Application) -> None:
    agent = Agent(site.client, name=HOSTILE[:90])
    site.submit(HOSTILE, tags=HOSTILE, args=HOSTILE, env=f"A={HOSTILE}", labels="")
    agent.claim()
    agent.report("POST", routes.ATTEMPT_PHASE, json={"phase": "executing"})
    line = f'{HOSTILE}\nPROGRESS: {{"<script>x": 1, "note": "<script>y"}}\n'.encode()
    agent.report("POST", f"{routes.ATTEMPT_LOG}?offset=0", data=line)
    finish(agent, exit_code=1, traceback=HOSTILE)
    for path in ("/", "/jobs/1", "/workers", "/?q=%3Cscript%3E", "/?worker=%3Cscript%3E"):
        html = page(site, path)
        scripts = Markup(html).all("script")
        assert [list(one) for one in scripts] == [["type", "src"]], path
        assert "alert(1)</script>" not in html
        assert "{{9999*9999}}" in html or "99980001" not in html


@pytest.mark.parametrize("path", ["/", "/jobs/1", "/workers", "/design", "/nowhere"])
def test_pages_keep_to_the_policy(site: Application, path: str) -> None:
    site.submit("x")
    answer = site.client.get(path)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    markup = Markup(answer.text)
    assert markup.inline == 0
    for _, attributes in markup.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href"):
            assert not re.match(r"(?i)(https?:)?//|javascript:", attributes.get(name) or "")


@pytest.mark.parametrize("path", ["/", "/jobs/1", "/workers", "/design"])
def test_pages_have_labels_landmarks_and_one_heading(site: Application, path: str) -> None:
    site.submit("x")
    html = page(site, path)
    markup = Markup(html)
    assert len(markup.all("h1")) == len(markup.all("main")) == 1
    assert markup.all("html")[0]["lang"] == "en"
    ids = [one["id"] for _, one in markup.elements if "id" in one]
    assert len(ids) == len(set(ids))
    labelled = {one.get("for") for one in markup.all("label")} - {None}
    for tag in ("input", "textarea", "select"):
        for field in markup.all(tag):
            if field.get("type") != "hidden":
                assert field.get("aria-label") or field.get("id") in labelled
    for _, attributes in markup.elements:
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in ids


def test_forms_carry_the_token_of_the_session(tmp_path: Path) -> None:
    with application(tmp_path, WIDE) as site:
        site.client.post("/login", data={"token": ACCESS_TOKEN})
        html = page(site, "/")
        (token,) = {
            one["value"] for one in Markup(html).all("input") if one.get("name") == "csrf_token"
        }
        assert f'<meta name="csrf-token" content="{token}">' in html
        refused = site.client.post("/jobs", **form({"name": "x", "file": upload()}))
        assert refused.status_code == 403
        taken = site.client.post(
            "/jobs", **form({"name": "x", "csrf_token": token, "file": upload()})
        )
        assert taken.status_code == 303
        header = {"X-CSRF-Token": token}
        assert site.client.post("/jobs/1/cancel", headers=header).status_code == 303


def test_upload_of_a_broken_form_is_an_error_page(site: Application) -> None:
    answer = site.client.post(
        "/jobs", data=io.BytesIO(b"--x\r\nbroken"), content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code in {400, 422}
    assert answer.mimetype == "text/html"


# `/design`


def test_design_page_shows_every_colour_that_there_is(site: Application) -> None:
    shown = re.findall(r'fill="var\(--([a-z0-9-]+)\)"', page(site, "/design"))
    tokens = (ROOT / "frontend" / "web" / "styles" / "tokens.css").read_text()
    colours = re.findall(
        r"^  --(?!chart-)([a-z0-9-]+): (?:light-dark\((?!0)|var\(--ink)", tokens, re.M
    )
    assert sorted(shown) == sorted(colours)


# `/compare`


def test_comparison_shows_what_differs(site: Application, agent: Agent) -> None:
    site.submit("first", args="--lr=0.1\n--deep", env="SEED=1")
    site.submit(HOSTILE, args="--lr=0.2\n--deep", env="SEED=1", tags="x")
    agent.claim()
    log = b'PROGRESS: {"step": 1, "loss": 3, "acc": 0.5}\nPROGRESS: {"step": 2, "loss": 0.25}\n'
    agent.report("POST", f"{routes.ATTEMPT_LOG}?offset=0", data=log)
    html = page(site, "/compare?jobs=2,1,2")
    assert HOSTILE not in html
    text = text_of(html)
    assert "--lr ≠ 0.2 0.1" in text
    assert "--deep on on" in text
    assert "SEED 1 1" in text
    assert "Tags ≠ x –" in text
    assert "loss ≠ – 0.25 0.25 to 3" in text
    assert "acc ≠ – 0.5" in text  # it stands in an earlier record alone
    assert "Compare the others without it" not in html


@pytest.mark.parametrize(
    ("jobs", "status", "sentence"),
    [
        ("", 200, "Name the numbers of 2 to 20 jobs"),
        ("1", 200, "Name the numbers of 2 to 20 jobs"),
        ("1,1", 422, "Name 2 to 20 jobs to compare; these are 1."),
        ("1,7,8", 404, "There is no job 7 or 8; compare the others without it."),
        ("1,99999999999999999999999", 404, "There is no job"),
        ("one,two", 422, "Name the jobs by their numbers, with commas between them."),
        ("1,%00", 200, "Name the numbers of 2 to 20 jobs"),
        (",".join(map(str, range(1, 22))), 422, "these are 21."),
    ],
)
def test_comparison_says_what_is_wrong(
    site: Application, jobs: str, status: int, sentence: str
) -> None:
    site.submit()
    assert sentence in text_of(page(site, f"/compare?jobs={jobs}", status))
