"""`/workers/<id>` and its twin in the API, with a worker that is played by the test."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.application import (
    ACCESS_TOKEN,
    WIDE,
    Agent,
    Application,
    application,
    bearer,
    bundle,
    upload,
)
from support.processes import PATIENCE
from werkzeug.test import TestResponse

from dtrain.protocol import routes
from dtrain.protocol.consent import key_of, prove

CODE = "K01M2Q9T"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def _patient_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, the worker sees to an answer in time."""
    monkeypatch.setattr("dtrain.server.jobs.claim.ANSWER_TIME", 10 * PATIENCE)


class Owned(Agent):
    """A worker whose owner has the code above; it sees to answers on a thread of its own."""

    def __init__(self, site: Application, name: str = "gpu-1") -> None:
        super().__init__(site.app.test_client(), name=name)
        self.look()

    def look(self, **changes: Any) -> dict[str, Any]:
        """Poll once."""
        asks = {"asks": True, "answer_on_page": True, **changes}
        answer = self.call("POST", routes.POLL, json=self.poll_message(**asks))
        assert answer.status_code == 200, answer.text
        return dict(answer.json or {})

    def see_to(self, offers: list[int]) -> threading.Thread:
        """Settle the next answer from the page."""

        def work() -> None:
            (given,) = self.look(wait=60, offers=offers)["answers"]
            proof = prove(
                key_of(CODE, self.id),
                given["id"],
                given["job_id"],
                accept=given["accept"],
                reason=given["reason"],
            )
            outcome = "wrong_code"
            if proof == given["proof"]:
                outcome = "done"
                reply = {
                    "session": self.session,
                    "accept": given["accept"],
                    "secret": self.secret,
                    "reason": given["reason"],
                }
                path = routes.path(routes.OFFER, job_id=given["job_id"])
                assert self.call("POST", path, json=reply).status_code == 200
            path = routes.path(routes.PAGE_ANSWER, answer_id=given["id"])
            assert self.call("POST", path, json={"outcome": outcome}).status_code == 204

        thread = threading.Thread(target=work)
        thread.start()
        return thread


def answer_page(
    client: FlaskClient, worker: Owned, job_id: int, offers: list[int] | None = None, **said: str
) -> TestResponse:
    """Answer on the page, with the worker at work."""
    thread = worker.see_to(offers or [job_id])
    form = {"answer": "accept", **said}
    found = client.post(f"/workers/{worker.id}/offers/{job_id}", data=form)
    thread.join(PATIENCE)
    return found


def test_page_shows_what_is_before_the_owner(site: Application) -> None:
    job = site.submit("digits", args="--lr\n0.1", tags="red", gpus="0", time_limit="2h")
    worker = Owned(site)
    html = site.client.get(f"/workers/{worker.id}").text
    for words in ("#1", "digits", "<code>--lr</code>", "red", "2h 00m", job["bundle"]["sha256"]):
        assert words in html
    assert html.count('name="code"') == 2
    assert f'action="/workers/{worker.id}/offers/1"' in html
    listed = site.client.get("/workers").text
    assert f'href="/workers/{worker.id}"' in listed
    assert "1 job waits for its owner’s word" in listed
    fragment = site.client.get(f"/fragments/workers/{worker.id}").text
    assert "digits" in fragment
    assert "<html" not in fragment


def test_accept_keeps_the_code_in_the_browsers_session_alone(site: Application) -> None:
    first, second = site.submit("alpha")["id"], site.submit("beta")["id"]
    worker = Owned(site)
    found = answer_page(site.client, worker, first, [first, second], code="k0im-2q9t")
    assert (found.status_code, found.headers["Location"]) == (303, f"/workers/{worker.id}")
    assert "HttpOnly" in found.headers["Set-Cookie"]
    assert "SameSite=Lax" in found.headers["Set-Cookie"]
    assert site.client.get(f"/api/jobs/{first}").json["status"] == "running"  # type: ignore[index]


def test_decline_on_the_page_brings_the_reason_to_the_job(site: Application) -> None:
    first, second = site.submit("alpha")["id"], site.submit("beta")["id"]
    worker = Owned(site)
    said = {"answer": "decline", "reason": f"too big {HOSTILE}"}
    found = answer_page(site.client, worker, first, [first, second], code=CODE, **said)
    assert found.status_code == 303
    html = site.client.get(f"/workers/{worker.id}").text
    assert 'name="code"' not in html, "the browser keeps it"
    assert "alpha" not in html
    found = answer_page(site.client, worker, second, answer="decline")
    assert found.status_code == 303, found.text
    other = site.app.test_client().get(f"/workers/{worker.id}").text
    assert "No job waits" in other
    page = site.client.get(f"/jobs/{first}").text
    assert "Its owner declined the job: " in page
    assert "Declined by the owner of gpu-1: too big" in page
    assert HOSTILE not in page
    explained = site.client.get(f"/api/jobs/{first}/explain").json or {}
    assert explained["workers"][0]["reason"] == f"too big {HOSTILE}"


def test_wrong_code_says_so_and_is_not_kept(site: Application) -> None:
    job = site.submit("digits")["id"]
    worker = Owned(site)
    found = answer_page(site.client, worker, job, code="WRONG")
    assert found.status_code == 403
    assert "This is not the code" in found.text
    assert 'name="code"' in found.text
    for _ in range(4):
        assert answer_page(site.client, worker, job, code="WRONG").status_code == 403
    found = site.client.post(
        f"/workers/{worker.id}/offers/{job}", data={"answer": "accept", "code": CODE}
    )
    assert found.status_code == 429
    assert "wait a minute" in found.text
    answer = site.client.post(
        f"/api/workers/{worker.id}/offers/{job}", json={"accept": True, "code": CODE}
    )
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "accept or decline"),
        ({"answer": "perhaps", "code": CODE}, "accept or decline"),
        ({"answer": "accept"}, "Enter the owner’s code"),
        ({"answer": "accept", "code": "x" * 101}, "Enter the owner’s code"),
        ({"answer": "decline", "code": CODE, "reason": "x" * 501}, "at most 500"),
        ({"answer": "decline", "code": CODE, "reason": "\0"}, "at most 500"),
    ],
)
def test_answer_that_is_none_is_refused_with_a_sentence(
    site: Application, form: dict[str, str], words: str
) -> None:
    job = site.submit("digits")["id"]
    worker = Owned(site)
    found = site.client.post(f"/workers/{worker.id}/offers/{job}", data=form)
    assert found.status_code == 422
    assert words in found.text


def test_files_of_an_offer_are_listed_page_by_page(site: Application) -> None:
    files = {"main.py": "print()"} | {f"data/{number:05}": "x" for number in range(1200)}
    job = site.submit("many", file=upload(bundle(files)))["id"]
    worker = Owned(site)
    path = f"/workers/{worker.id}/offers/{job}/files"
    first = site.client.get(path).text
    assert "1,201 files" in first
    assert first.count("<tr>") == 501
    (more,) = re.findall(r'href="([^"]+)" rel="next"', first)
    assert site.client.get(more).text.count("<tr>") == 501
    assert site.client.get(f"{path}?after=1000").text.count("<tr>") == 202
    assert site.client.get(f"{path}?after=-1").status_code == 422
    assert site.client.get(f"/workers/{worker.id}/offers/99/files").status_code == 409
    listed = worker.call("GET", routes.path(routes.OFFER_FILES, job_id=job)).json or {}
    assert len(listed["files"]) == 1201
    assert worker.call("GET", routes.path(routes.OFFER_FILES, job_id=99)).status_code == 409


def test_api_is_the_pages_twin(site: Application) -> None:
    job = site.submit("digits", tags="red")["id"]
    worker = Owned(site)
    listed = site.client.get(f"/api/workers/{worker.id}/offers").json or {}
    assert [(offer["job_id"], offer["spec"]["tags"]) for offer in listed["offers"]] == [
        (job, ["red"])
    ]
    path = f"/api/workers/{worker.id}/offers/{job}"
    assert site.client.post(path, json={"accept": True}).status_code == 422
    thread = worker.see_to([job])
    answer = site.client.post(path, json={"accept": True, "code": CODE})
    thread.join(PATIENCE)
    assert answer.json == {"job_id": job, "accepted": True}
    assert "Set-Cookie" not in answer.headers
    again = site.client.post(path, json={"accept": True, "code": CODE})
    assert (again.status_code, (again.json or {})["code"]) == (409, "withdrawn")


def test_access_token_alone_answers_for_no_owner(tmp_path: Path) -> None:
    """A submitter has the server's token, and nothing of the owner's."""
    with application(tmp_path, WIDE) as wide:
        headers = bearer(ACCESS_TOKEN)
        answer = wide.client.post(
            routes.JOBS, data={"name": "digits", "file": upload()}, headers=headers
        )
        job = (answer.json or {})["id"]
        worker = Owned(wide)
        path = f"/workers/{worker.id}/offers/{job}"
        for guess in ("", ACCESS_TOKEN, worker.credential):
            thread = worker.see_to([job]) if guess else None
            form = {"answer": "accept", "code": guess}
            assert wide.client.post(path, data=form, headers=headers).status_code in {403, 422}
            if thread is not None:
                thread.join(PATIENCE)
        stolen = wide.app.test_client()
        assert stolen.post(path, data={"answer": "accept", "code": CODE}).status_code == 401
        status = wide.client.get(f"/api/jobs/{job}", headers=headers).json or {}
        assert status["status"] == "pending"


def test_foreign_page_cannot_answer_with_the_code_that_a_browser_keeps(site: Application) -> None:
    first, second = site.submit("alpha")["id"], site.submit("beta")["id"]
    worker = Owned(site)
    said = {"answer": "decline", "code": CODE}
    assert answer_page(site.client, worker, first, [first, second], **said).status_code == 303
    found = site.client.post(
        f"/workers/{worker.id}/offers/{second}",
        data={"answer": "accept"},
        headers={"Origin": "http://evil.example"},
    )
    assert found.status_code == 403


def test_drain_on_the_page_stays_there(site: Application) -> None:
    worker = Owned(site)
    found = site.client.post(f"/workers/{worker.id}/drain", data={"stay": "1"})
    assert found.headers["Location"] == f"/workers/{worker.id}"
    html = site.client.get(f"/workers/{worker.id}").text
    assert "takes nothing new" in html
    assert f'action="/workers/{worker.id}/resume"' in html


def test_worker_that_nobody_knows_has_no_page(site: Application) -> None:
    for path in ("/workers/00000000-0000-0000-0000-000000000000", "/workers/x"):
        assert site.client.get(path).status_code == 404


def test_owner_who_is_asked_at_the_terminal_alone(site: Application) -> None:
    site.submit("digits")
    worker = Owned(site)
    worker.look(answer_on_page=False)
    html = site.client.get(f"/workers/{worker.id}").text
    assert "at the worker’s terminal alone" in html
    assert "<form" in html
    assert 'name="answer"' not in html
