"""Metrics thinned for a chart: every peak is there, however many records there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from support.application import Agent, Application, application

from dtrain.protocol import routes
from dtrain.server.store.schema import metric_spans

RECORDS = 5000
PEAKS = {7: 100.0, 2500: 200.0, 2501: -200.0, 4990: 300.0}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """Job 1 has logged records in pieces of many sizes."""
    lines = [
        {"step": seq * 2, "loss": PEAKS.get(seq, seq / RECORDS), "acc": 0.5}
        for seq in range(RECORDS)
    ]
    lines[1234]["loss"] = float("nan")
    with application(tmp_path_factory.mktemp("metrics")) as found:
        found.submit()
        agent = Agent(found.client)
        agent.claim()
        offset = first = 0
        for size in [1, 7, 8, 9, 500, 63, 64, 65, 4096, RECORDS]:
            data = b"".join(
                b"PROGRESS: " + json.dumps(line).encode() + b"\n"
                for line in lines[first : first + size]
            )
            if data:
                agent.report("POST", f"{routes.ATTEMPT_LOG}?offset={offset}", data=data)
            offset, first = offset + len(data), first + size
        yield found


def ask(site: Application, query: str) -> dict[str, Any]:
    answer = site.client.get(f"/api/jobs/1/metrics?{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


@pytest.mark.parametrize("points", [20, 100, 1000])
def test_peaks_and_gaps_are_kept(site: Application, points: int) -> None:
    page = ask(site, f"points={points}")
    assert (page["next"], page["more"]) == (RECORDS, False)
    found = {record["seq"]: record["values"].get("loss") for record in page["records"]}
    assert list(found) == sorted(found)
    assert len([value for value in found.values() if value is not None]) <= points + 2
    for seq, value in [(2500, 200.0), (2501, -200.0), (4990, 300.0), (1234, "NaN")]:
        assert found[seq] == value
    assert page["records"][-1]["values"] == {"step": 9998, "loss": 4999 / RECORDS, "acc": 0.5}
    assert all(record["step"] == record["seq"] * 2 for record in page["records"])


def test_thinning_begins_where_it_is_told_to(site: Application) -> None:
    records = ask(site, "points=100&after=2501")["records"]
    assert records[0]["seq"] >= 2501
    values = {record["values"].get("loss") for record in records}
    assert -200.0 in values
    assert 200.0 not in values


def test_a_part_is_given_finer_than_the_whole(site: Application) -> None:
    page = ask(site, "points=100&after=2300&before=2501")
    found = [record["seq"] for record in page["records"]]
    assert (page["next"], page["more"]) == (2501, False)
    assert 2300 <= found[0] < found[-1] == 2500
    assert 200.0 in [record["values"].get("loss") for record in page["records"]]
    whole = [record["seq"] for record in ask(site, "points=100")["records"]]
    assert len(found) > 10 * len([seq for seq in whole if 2300 <= seq <= 2500])
    assert page["records"][-1]["values"].keys() == {"step", "loss", "acc"}


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("points=100&after=40&before=60", list(range(40, 60))),
        ("limit=100&after=40&before=60", list(range(40, 60))),
        ("limit=7&after=40&before=60", list(range(40, 47))),
        ("after=60&before=60", []),
        ("after=60&before=40", []),
        (f"after={RECORDS - 3}&before={RECORDS + 3}", list(range(RECORDS - 3, RECORDS))),
    ],
)
def test_a_part_ends_where_it_is_told_to(site: Application, query: str, seqs: list[int]) -> None:
    page = ask(site, query)
    assert [record["seq"] for record in page["records"]] == seqs
    assert page["more"] == ("limit=7" in query)


def test_few_records_are_given_as_they_are(site: Application) -> None:
    page = ask(site, "points=100&after=4900")
    assert page["records"] == ask(site, "after=4900")["records"]
    assert len(page["records"]) == 100


def test_records_without_summaries_are_thinned_as_well(site: Application) -> None:
    site.services.database.write(
        lambda connection: connection.execute(
            sa.delete(metric_spans).where(metric_spans.c.first == 64)
        )
    )
    values = {record["values"].get("loss") for record in ask(site, "points=100")["records"]}
    assert values >= {*PEAKS.values(), "NaN"}


def test_a_number_of_points_that_is_not_acceptable_is_refused(site: Application) -> None:
    for points in ("0", "10001", "x"):
        assert site.client.get(f"/api/jobs/1/metrics?points={points}").status_code == 422
