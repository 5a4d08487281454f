"""Which parameters and results of jobs differ."""

from __future__ import annotations

import pytest

from dtrain.server.jobs.compare import Summary
from dtrain.server.pages.comparison import Result, Row, named_arguments


def summary(last: float | str) -> Summary:
    return Summary(last=last, least=None, greatest=None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], {}),
        (["--lr=0.1"], {"--lr": "0.1"}),
        (["--lr", "0.1", "--deep"], {"--lr": "0.1", "--deep": "on"}),
        (["--shift", "-3", "--scale", "-.5"], {"--shift": "-3", "--scale": "-.5"}),
        (["--deep", "--lr=a=b"], {"--deep": "on", "--lr": "a=b"}),
        (["--tag", "a", "--tag=b"], {"--tag": "a, b"}),
        (["train", "-v", "--", "rest"], {"argument 1": "train", "-v": "on", "--": "rest"}),
        (["a", "", "-"], {"argument 1": "a", "argument 2": "", "argument 3": "-"}),
    ],
)
def test_arguments_are_told_apart_by_their_options(
    arguments: list[str], named: dict[str, str]
) -> None:
    assert named_arguments(arguments) == named


def test_parameter_that_one_job_lacks_differs() -> None:
    assert Row("seed", ["1", None]).differs
    assert Row("seed", ["1", "2"]).differs
    assert not Row("seed", ["1", "1", "1"]).differs


def test_lowest_and_highest_value_are_both_marked() -> None:
    cells = [summary(0.5), summary(2), None, summary("NaN"), summary(1), summary(2)]
    row = Result("loss", cells)
    assert [row.mark(cell) for cell in cells] == ["lowest", "highest", "", "", "", "highest"]


def test_values_that_are_all_alike_are_not_marked() -> None:
    row = Result("loss", [summary(1), summary(1.0), summary("NaN")])
    assert [row.mark(cell) for cell in row.cells] == ["", "", ""]
    assert Result("loss", [summary("NaN"), None]).mark(summary("NaN")) == ""
