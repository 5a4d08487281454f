"""Lists of jobs: filters, orders, and pages that hold while jobs come and go."""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import Job, JobCounts, JobPage
from dtrain.protocol.states import Sort, Status
from dtrain.server.store import job_lists, job_views
from dtrain.server.store.job_lists import Filters, Place

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_PAGE = 500
"""Jobs on one page at most."""
CURSOR = "^([A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048])?$"
"""What a cursor of the newest looks like: a number of 63 bits in base64; nothing is the first
page."""
COUNTED = 10_000
"""How far the jobs in a status are counted for a page."""
_WORDS = 200
_MAX_TAGS = 50
_KEYED = struct.Struct(">dq")


@dataclass(frozen=True)
class Listing:
    """One page of a list, and where the pages beside it begin."""

    jobs: list[Job]
    previous: str | None
    next: str | None
    counts: dict[str, int]
    """How many jobs there are in each status; `COUNTED` stands for so many or more."""
    newest: int
    """The number of the newest job that there is; 0 if there is none."""


@dataclass(frozen=True)
class Choices:
    """What a list can be narrowed to; of very many the first ones."""

    tags: list[str]
    workers: list[str]
    submitters: list[str]


def page(
    services: Services,
    *,
    status: str | None = None,
    tag: str | None = None,
    worker: str | None = None,
    submitter: str | None = None,
    q: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> JobPage:
    """Jobs, newest first, that match every filter given.

    Args:
        services: the server's parts.
        status: one status, or several with commas: any of these.
        tag: a tag that the job carries, or several with commas: all of these.
        worker: the name or id of the latest attempt's worker.
        submitter: who handed the job in.
        q: text in the job's name, whatever its case, or its number, also as `#42`.
        limit: jobs on the page.
        cursor: the `next` of the page before.

    Raises:
        Invalid: a filter is not acceptable.
    """
    place = _place(cursor, Sort.NEWEST) if cursor else None
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"The limit is a number from 1 to {MAX_PAGE}.", field="limit")
    filters = _filters(status, tag, worker, submitter, q)
    with services.database.read() as connection:
        found = job_lists.page(connection, filters, place=place, limit=limit + 1)
    more = len(found) > limit
    found = found[:limit]
    following = _cursor((found[-1].id,)) if more else None
    return JobPage(jobs=found, next=following)


def counts(services: Services) -> JobCounts:
    """All jobs by their status."""
    with services.database.read() as connection:
        return JobCounts(**job_views.counts(connection))


def sorted_page(
    services: Services,
    *,
    status: str | None = None,
    tag: str | None = None,
    worker: str | None = None,
    submitter: str | None = None,
    q: str | None = None,
    sort: str | None = None,
    cursor: str | None = None,
    back: str | None = None,
    limit: int = 50,
) -> Listing:
    """As `page`, in any order and with the way back.

    Args:
        services: the server's parts.
        status: as for `page`, and so are the other filters.
        tag: see `page`.
        worker: see `page`.
        submitter: see `page`.
        q: see `page`.
        sort: a `Sort`; the longest running is the newest among jobs that do not run.
        cursor: the `next` of the page before.
        back: the `previous` of the page behind; of the two it wins.
        limit: jobs on the page.

    Raises:
        Invalid: a filter, the order or the place is not acceptable.
    """
    filters = _filters(status, tag, worker, submitter, q)
    order = _sort(sort)
    if order is Sort.LONGEST and filters.status and Status.RUNNING not in filters.status:
        order = Sort.NEWEST
    start = back or cursor
    place = _place(start, order) if start else None
    with services.database.read() as connection:
        found = job_lists.page(
            connection, filters, sort=order, place=place, back=bool(back), limit=limit + 1
        )
        more = len(found) > limit
        shown = found[len(found) - limit :] if back and more else found[:limit]
        # Those that lie on the side from which one came are not looked for again.
        sides = (0, more if back else bool(cursor)), (-1, bool(back) or more)
        cursors = [
            _cursor(job_lists.place_of(connection, shown[end].id, order))
            if goes_on and shown
            else None
            for end, goes_on in sides
        ]
        counts = job_views.counts(connection, COUNTED)
        newest = job_lists.newest(connection)
    return Listing(shown, previous=cursors[0], next=cursors[1], counts=counts, newest=newest)


def choices(services: Services) -> Choices:
    """What a list of jobs can be narrowed to."""
    with services.database.read() as connection:
        return Choices(*job_lists.choices(connection, _WORDS))


def _filters(
    status: str | None, tag: str | None, worker: str | None, submitter: str | None, q: str | None
) -> Filters:
    tags = list(dict.fromkeys(_words(tag)))
    if len(tags) > _MAX_TAGS:
        raise Invalid(f"Name at most {_MAX_TAGS} tags.", field="tag")
    return Filters(_statuses(status), tags, worker or None, submitter or None, q or None)


def _statuses(text: str | None) -> list[Status]:
    try:
        return list(dict.fromkeys(map(Status, _words(text))))
    except ValueError:
        known = ", ".join(Status)
        raise Invalid(
            f"There is no such status; the statuses are {known}.", field="status"
        ) from None


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _sort(text: str | None) -> Sort:
    try:
        return Sort(text or Sort.NEWEST)
    except ValueError:
        known = ", ".join(Sort)
        raise Invalid(f"There is no such order; the orders are {known}.", field="sort") from None


def _cursor(place: Place) -> str:
    """A place between two jobs: it stays where it is while jobs come and go."""
    packed = int(place[0]).to_bytes(8) if len(place) == 1 else _KEYED.pack(*place)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _place(cursor: str, sort: Sort) -> Place:
    if sort in {Sort.NEWEST, Sort.OLDEST}:
        if not re.fullmatch(CURSOR, cursor):
            raise _misplaced()
        return (int.from_bytes(base64.urlsafe_b64decode(f"{cursor}=")),)
    if not re.fullmatch("[A-Za-z0-9_-]{21}[AQgw]", cursor):
        raise _misplaced()
    key, number = _KEYED.unpack(base64.urlsafe_b64decode(f"{cursor}=="))
    if not abs(key) < 1e15 or number < 0:
        raise _misplaced()
    return (int(key) if sort is Sort.PRIORITY else key, number)


def _misplaced() -> Invalid:
    return Invalid("The cursor is the `next` of the page before.", field="cursor")
