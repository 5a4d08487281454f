"""Errors on the wire: problem documents (RFC 9457)."""

from __future__ import annotations

import msgspec

from .errors import (
    Conflict,
    DTrainError,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    Unauthorized,
    Unavailable,
)


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error answer under `/api` (`application/problem+json`, RFC 9457)."""

    status: int
    """The HTTP status."""
    code: str
    """A word for programs; never renamed."""
    title: str
    """The HTTP status in words."""
    detail: str
    """One sentence for a person: what is wrong and what to do."""
    field: str | None = None
    """The field of the request that is at fault, where there is one."""
    offset: int | None = None
    """With `log_gap`: the byte offset at which the log goes on."""


_BY_STATUS: dict[int, type[DTrainError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Conflict,
    416: Conflict,
    426: Conflict,
    400: Invalid,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


def from_problem(problem: Problem, retry_after: float | None = None) -> DTrainError:
    """The error that a problem document stands for."""
    if problem.status in _BY_STATUS:
        kind = _BY_STATUS[problem.status]
    elif problem.status == 429 or problem.status >= 500:
        kind = Unavailable
    else:
        kind = Refused
    return kind(
        problem.detail,
        code=problem.code,
        status=problem.status,
        field=problem.field,
        offset=problem.offset,
        retry_after=retry_after,
    )
