"""The list of jobs: filters, and pages that hold while jobs come and go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlalchemy as sa
from support.application import Agent, Application, application

from dtrain.protocol.states import Sort, Status
from dtrain.server.jobs import bulk, listing
from dtrain.server.store import job_lists
from dtrain.server.store.job_lists import Filters
from dtrain.server.store.schema import job_tags, jobs


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Application]:
    with application(tmp_path, {"DATABASE_URL": database_url}) as found:
        yield found


def names(server: Application, query: str) -> list[str]:
    answer = server.client.get(f"/api/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in (answer.json or {})["jobs"]]


def test_filters_narrow_the_list_together(server: Application) -> None:
    who = {"DTrain-Submitter": "Ada%20Lovelace"}
    server.submit(name="run first", tags=["red", "big"])
    agent = Agent(server.client, name="worker-1")
    agent.claim()
    server.client.post("/api/jobs/1/retry", headers=who)
    server.submit(name="Other", tags="red,small")
    server.submit(name="last", tags="big, red , new")
    server.client.post("/api/jobs/3/cancel")

    assert names(server, "") == ["last", "Other", "run first", "run first"]
    assert names(server, "status=pending") == ["last", "run first"]
    assert names(server, "status=cancelled,running") == ["Other", "run first"]
    assert names(server, "status=running,%20pending,running") == ["last", "run first", "run first"]
    assert names(server, "status=failed,completed") == []
    assert names(server, "tag=red") == ["last", "Other", "run first", "run first"]
    assert names(server, "tag=red,big") == ["last", "run first", "run first"]
    assert names(server, "tag=big,red,new") == ["last"]
    assert names(server, "tag=red,none") == []
    assert names(server, "tag=big&status=pending,cancelled") == ["last", "run first"]
    assert names(server, "worker=worker-1") == ["run first"]
    assert names(server, f"worker={agent.id}&status=running,failed&q=RUN&tag=big") == ["run first"]
    assert names(server, "worker=worker-2") == []
    assert names(server, "submitter=Ada%20Lovelace") == ["run first"]
    assert names(server, "submitter=ada%20lovelace") == []
    assert names(server, "q=oTHE") == ["Other"]
    assert names(server, "q=%25' OR 1=1 --") == []


def test_text_is_found_in_names_whatever_its_case_and_characters(server: Application) -> None:
    for name in ("Grüße aus Köln", 'say "hi"', "100% of_it", "数据集 训练"):
        server.submit(name=name)

    def found(text: str) -> list[str]:
        return names(server, urlencode({"q": text}))

    assert found("GRÜß") == found("KÖLN") == found("ö") == ["Grüße aus Köln"]
    assert found('Y "h') == found('"') == ['say "hi"']
    assert found("0% OF_") == found("%") == found("f_") == ["100% of_it"]
    assert found("数据集") == found("训") == ["数据集 训练"]
    assert found("say AND hi") == found('name:"say"') == found("sa*") == found("   ") == []
    server.client.post("/api/jobs/1/cancel")
    server.client.delete("/api/jobs/1")
    assert found("grüß") == []


@pytest.mark.parametrize("query", ["", "&tag=t", "&status=pending,cancelled", "&q=job"])
def test_pages_hold_while_jobs_come_and_go(server: Application, query: str) -> None:
    for number in range(1, 9):
        server.submit(name=f"job {number}", tags="t")
    seen: list[int] = []
    address: str | None = f"/api/jobs?limit=2{query}"
    while address is not None:
        answer = server.client.get(address)
        page = answer.json or {}
        seen += [job["id"] for job in page["jobs"]]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
        assert (link is None) == (page["next"] is None)
        if link is not None:
            asked = parse_qs(urlsplit(link[1]).query)
            assert (asked["cursor"], asked["limit"]) == ([page["next"]], ["2"])
        address = link and link[1]
        server.submit(name="job that comes late", tags="t")
        if len(seen) == 4:  # the next page begins behind one of these
            server.client.delete("/api/jobs/5")
            server.client.delete("/api/jobs/4")
            server.client.post("/api/jobs/3/cancel")
    assert seen == [8, 7, 6, 5, 3, 2, 1]


def test_jobs_are_counted_by_their_status(server: Application) -> None:
    server.submit()
    server.submit()
    server.client.post("/api/jobs/1/cancel")
    assert server.client.get("/api/jobs/counts").json == {
        "pending": 1,
        "running": 0,
        "completed": 0,
        "failed": 0,
        "cancelled": 1,
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=pending,done", "status"),
        ("cursor=1", "cursor"),
        ("cursor=AAAAAAAAAAB", "cursor"),
        ("cursor=g_________8", "cursor"),
        ("cursor=AAAAAAAAAAA%0A", "cursor"),
        ("tags=a", "tags"),
        ("tag=a&tag=b", "tag"),
        (f"submitter={'x' * 1001}", "submitter"),
    ],
)
def test_filters_that_are_none_are_refused(server: Application, query: str, field: str) -> None:
    answer = server.client.get(f"/api/jobs?{query}")
    assert (answer.status_code, (answer.json or {})["field"]) == (422, field)


def test_filters_that_match_few_of_many_are_read_off_indexes(server: Application) -> None:
    model = server.submit(name="model", tags="rare,common")
    with server.services.database.read() as connection:
        row = dict(connection.execute(sa.select(jobs)).mappings().one())
    others = range(2, 20_002)
    ended = {"status": "completed", "phase": None, "submitter": "somebody"}
    copies = [row | ended | {"id": number, "name": f"other {number}"} for number in others]
    tags = [{"tag": "common", "job_id": number} for number in others]

    def fill(connection: sa.Connection) -> None:
        connection.execute(jobs.update().values(submitter="ada"))
        connection.execute(jobs.insert(), copies)
        connection.execute(job_tags.insert(), tags)

    server.services.database.write(fill)
    filters: list[dict[str, Any]] = [
        {"status": [Status.PENDING]},
        {"status": [Status.PENDING, Status.RUNNING]},
        {"tags": ["rare"]},
        {"tags": ["common", "rare"]},
        {"submitter": "ada"},
        {"submitter": "ada", "status": [Status.PENDING], "text": "ODE"},
        {"tags": ["rare"], "text": "ode"},
        {"text": "ModeL"},
        {"text": "ode", "status": [Status.PENDING]},
    ]
    for sort in (Sort.NEWEST, Sort.OLDEST, Sort.PRIORITY):
        for chosen in filters:
            found, steps = looked_at(server, sort, **chosen)
            assert found == [model["id"]], (sort, chosen)
            assert steps < 40_000, (sort, chosen)  # a look at each job takes five times as many
    for sort in Sort:
        many = {}, {"tags": ["common"], "submitter": "somebody"}, {"text": "OTHER"}
        for chosen in many:
            _, steps = looked_at(server, sort, **chosen)
            assert steps < 40_000, (sort, chosen)


def looked_at(
    server: Application, sort: Sort = Sort.NEWEST, **filters: Any
) -> tuple[list[int], int]:
    """The jobs that are found, and about how many steps the database takes for them."""
    with server.services.database.read() as connection:
        steps = 0
        driver: Any = connection.connection.driver_connection
        if server.services.database.is_sqlite:

            def count() -> int:
                nonlocal steps
                steps += 10
                return 0

            driver.set_progress_handler(count, 10)
        found = job_lists.page(connection, Filters(**filters), sort=sort, limit=50)
        if server.services.database.is_sqlite:
            driver.set_progress_handler(None, 0)
        return [job.id for job in found], steps


def test_job_is_found_by_its_number(server: Application) -> None:
    for name in ("one", "two", "run 1 of 2"):
        server.submit(name=name)
    copies = {"id": 1234, "name": "far"}
    server.services.database.write(
        lambda connection: connection.execute(jobs.update().where(jobs.c.id == 2).values(copies))
    )
    assert names(server, "q=1") == ["run 1 of 2", "one"]
    assert names(server, "q=%231") == ["one"]
    assert names(server, "q=1234") == names(server, "q=%231234") == ["far"]
    assert names(server, "q=1234&status=running") == []
    assert names(server, f"q={'9' * 18}") == names(server, f"q={'9' * 30}") == []


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.NEWEST, [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        (Sort.OLDEST, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (Sort.PRIORITY, [8, 5, 2, 7, 4, 1, 9, 6, 3]),
        (Sort.LONGEST, [3, 6, 9, 2, 5, 8, 1, 4, 7]),
    ],
)
def test_sorted_pages_lead_on_and_back(
    server: Application, sort: Sort, expected: list[int]
) -> None:
    for number in range(1, 10):
        server.submit(name=f"job {number}", priority=str(number % 3 * 10))
    if sort is Sort.LONGEST:
        started = 1_700_000_000.1 + sa.case((jobs.c.id % 3 == 0, 0), else_=3 - jobs.c.id % 3) / 7.0
        running = jobs.update().values(status="running", phase="executing", started_at=started)
        server.services.database.write(lambda connection: connection.execute(running))

    def page(**place: str | None) -> listing.Listing:
        return listing.sorted_page(server.services, sort=sort, limit=2, **place)

    pages = [page()]
    while pages[-1].next is not None:
        pages.append(page(cursor=pages[-1].next))
        if len(pages) == 3:
            server.submit(name="comes late", priority="100")
    seen = [[job.id for job in one.jobs] for one in pages]
    assert [number for numbers in seen for number in numbers] == expected
    assert pages[0].previous is None
    at = pages[-1]
    for numbers in seen[-2::-1]:
        at = page(back=at.previous)
        assert [job.id for job in at.jobs] == numbers
    # What came late stands before the first page of these orders.
    assert (at.previous is None) == (sort in {Sort.OLDEST, Sort.LONGEST})


def test_jobs_of_very_many_are_counted_only_so_far(
    server: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "COUNTED", 2)
    for _ in range(3):
        server.submit()
    assert listing.sorted_page(server.services).counts["pending"] == 2


def test_each_of_several_jobs_is_done_or_refused(server: Application) -> None:
    for _ in range(3):
        server.submit()
    server.client.post("/api/jobs/1/cancel")

    def act(action: bulk.Action, *job_ids: int) -> list[tuple[int, int | None, str | None]]:
        each = bulk.act(server.services, action, job_ids, by=None, once="page-1")
        return [(one.job_id, one.new_id, one.refused) for one in each]

    ended = "It has ended already: it is cancelled."
    assert act(bulk.Action.CANCEL, 1, 2, 2) == [(1, None, ended), (2, None, None)]
    waits = "It is pending; only a job that has ended can be retried."
    assert act(bulk.Action.RETRY, 1, 3) == [(1, 4, None), (3, None, waits)]
    assert act(bulk.Action.RETRY, 1) == [(1, 4, None)]  # the same form, sent twice
    gone = "There is no such job any more."
    assert act(bulk.Action.DELETE, 1, 99) == [(1, None, None), (99, None, gone)]
