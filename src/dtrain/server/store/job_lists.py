"""Which jobs a list shows, in which order: found by indexes, however many jobs there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from dtrain.protocol.messages import Job
from dtrain.protocol.states import Sort, Status

from . import job_views, name_search
from .schema import job_tags, jobs, workers

_FEW = 1000
"""Jobs that are looked at one by one without anybody noticing."""

Place = tuple[float, ...]
"""Where a page ends: the values of the last job by which the list is sorted."""


@dataclass(frozen=True)
class Filters:
    """Which jobs are wanted: those that match every filter given."""

    status: Sequence[Status] = ()
    """Any of these."""
    tags: Sequence[str] = ()
    """All of these."""
    worker: str | None = None
    """The name or id of the latest attempt's worker."""
    submitter: str | None = None
    text: str | None = None
    """In the name, whatever its case, or the job's number."""


def page(
    connection: sa.Connection,
    filters: Filters,
    *,
    sort: Sort = Sort.NEWEST,
    place: Place | None = None,
    back: bool = False,
    limit: int,
) -> list[Job]:
    """The jobs of one page.

    Args:
        connection: a reading one.
        filters: which jobs are wanted.
        sort: their order; the longest running are those that run, whatever status is asked for;
            the caller sees to it that these are among them.
        place: where to begin; None for the first page.
        back: whether the jobs before the place are wanted instead of those behind it.
        limit: jobs on the page at most.
    """
    if sort is Sort.LONGEST:
        filters = replace(filters, status=[Status.RUNNING])
    order = _Order(sort, place, back=back)
    matching = _matching(connection, filters, order, limit)
    found = job_views.of_query(connection, matching, order.by(), limit)
    return found[::-1] if back else found


def place_of(connection: sa.Connection, job_id: int, sort: Sort) -> Place:
    """The place at which a job stands that the list shows."""
    columns = [*_SORTED_BY.get(sort, []), jobs.c.id]
    return tuple(connection.execute(sa.select(*columns).where(jobs.c.id == job_id)).one())


_SORTED_BY = {Sort.PRIORITY: [jobs.c.priority], Sort.LONGEST: [jobs.c.started_at]}
"""What counts before a job's number."""


class _Order:
    """A sort, from a place on, as SQL."""

    def __init__(self, sort: Sort, place: Place | None, *, back: bool) -> None:
        self.sort = sort
        self._place = place
        self._falls = (sort in {Sort.NEWEST, Sort.PRIORITY}) != back
        self._first: list[sa.ColumnElement[Any]] = list(_SORTED_BY.get(sort, []))

    def by(self, number: sa.ColumnElement[int] = jobs.c.id) -> list[sa.ColumnElement[Any]]:
        """What to order by."""
        return [one.desc() if self._falls else one.asc() for one in (*self._first, number)]

    def first(
        self, query: sa.Select[Any], limit: int, number: sa.ColumnElement[int] = jobs.c.id
    ) -> sa.Select[Any]:
        """The first jobs of a query behind the place."""
        if self._place is not None:
            key: sa.ColumnElement[Any] = number
            end: sa.ColumnElement[Any] = sa.literal(self._place[0])
            if self._first:
                key, end = sa.tuple_(*self._first, number), sa.tuple_(*self._place)
            query = query.where(key < end if self._falls else key > end)
        return query.order_by(*self.by(number)).limit(limit)


def _matching(
    connection: sa.Connection, filters: Filters, order: _Order, limit: int
) -> sa.Select[Any]:
    where: list[sa.ColumnElement[bool]] = []
    sources = [_with_tag(tag) for tag in filters.tags]
    if filters.worker:
        named = sa.or_(workers.c.id == filters.worker, workers.c.name == filters.worker)
        ids = connection.execute(sa.select(workers.c.id).where(named)).scalars().all()
        where.append(jobs.c.worker_id.in_(ids))
    if filters.submitter:
        where.append(jobs.c.submitter == filters.submitter)
    sources += [sa.select(jobs.c.id).where(condition) for condition in where]
    of_status = [jobs.c.status.in_(filters.status)] if filters.status else []
    sources += [sa.select(jobs.c.id).where(condition) for condition in of_status]
    in_order = None
    if filters.text:
        with_text = name_search.named(connection, filters.text)
        in_order = name_search.in_order(connection, filters.text)
        sources = sources if with_text is None else [with_text, *sources]
        where.append(name_search.has(filters.text))
    by_number = order.sort in {Sort.NEWEST, Sort.OLDEST}
    tagged = [*map(_tagged, filters.tags)]
    if len(sources) > 1 or filters.text or not by_number:
        few = _few(connection, sources)
        if few is not None:
            conditions = [*where, *of_status, *tagged]
            return order.first(sa.select(jobs.c.id).where(jobs.c.id.in_(few), *conditions), limit)
    if filters.tags and by_number:
        conditions = [*where, *of_status, *tagged[1:]]
        return _led_by(_with_tag(filters.tags[0]), conditions, order, limit)
    if in_order is not None and by_number:
        return _led_by(in_order, [*where, *of_status], order, limit)
    return _by_status(filters.status, [*where, *tagged], order, limit)


def _few(connection: sa.Connection, sources: Sequence[sa.Select[Any]]) -> list[int] | None:
    """All jobs of the first source that has few; None if every one has many."""
    for source in sources:
        found = list(connection.execute(source.limit(_FEW)).scalars())
        if len(found) < _FEW:
            return found
    return None


def _with_tag(tag: str) -> sa.Select[Any]:
    return sa.select(job_tags.c.job_id).where(job_tags.c.tag == tag)


def _tagged(tag: str) -> sa.ColumnElement[bool]:
    other = job_tags.alias()
    return sa.exists().where(other.c.tag == tag, other.c.job_id == jobs.c.id)


def _led_by(
    index: sa.Select[Any], where: Sequence[sa.ColumnElement[bool]], order: _Order, limit: int
) -> sa.Select[Any]:
    """Jobs whose numbers an index has in their order."""
    [number] = index.selected_columns
    if where:
        index = index.join(jobs, jobs.c.id == number).where(*where)
    return order.first(index, limit, number)


def _by_status(
    status: Sequence[Status],
    where: Sequence[sa.ColumnElement[bool]],
    order: _Order,
    limit: int,
) -> sa.Select[Any]:
    """Jobs in order, with several statuses those of each: every part is read off an index."""
    if order.sort is Sort.PRIORITY:
        status = status or list(Status)
    parts = [
        order.first(sa.select(jobs.c.id).where(jobs.c.status == one, *where), limit)
        for one in status
    ]
    if not parts:
        return order.first(sa.select(jobs.c.id).where(*where), limit)
    if len(parts) == 1:
        return parts[0]
    either = sa.union_all(*(sa.select(part.subquery().c.id) for part in parts))
    return order.first(sa.select(jobs.c.id).where(jobs.c.id.in_(either)), limit)


def newest(connection: sa.Connection) -> int:
    """The greatest number of a job; 0 if there is none."""
    return connection.execute(sa.select(sa.func.max(jobs.c.id))).scalar_one() or 0


def words(connection: sa.Connection, column: sa.ColumnElement[Any], limit: int) -> list[str]:
    """The different values of an indexed column, each found by one step through the index."""
    first = sa.select(sa.func.min(column).label("word")).cte("words", recursive=True)
    following = sa.select(sa.func.min(column)).where(column > first.c.word).scalar_subquery()
    every = first.union_all(sa.select(following).where(first.c.word.is_not(None)))
    query = sa.select(every.c.word).where(every.c.word.is_not(None)).limit(limit)
    return list(connection.execute(query).scalars())


def choices(connection: sa.Connection, limit: int) -> tuple[list[str], list[str], list[str]]:
    """What jobs can be chosen by: tags, names of workers, submitters; some of them if many."""
    named = sa.select(workers.c.name).distinct().order_by(workers.c.name).limit(limit)
    return (
        words(connection, job_tags.c.tag, limit),
        list(connection.execute(named).scalars()),
        words(connection, jobs.c.submitter, limit),
    )
