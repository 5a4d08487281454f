"""What each page knows: one frozen context a page, made of the messages of the API.

Those of a single job's pages are in `job_contexts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from dtrain.protocol.messages import BundleContents, BundleEntry, Worker
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Sort, Status
from dtrain.protocol.worker_messages import Offer
from dtrain.server.jobs.bulk import Action, Outcome
from dtrain.server.jobs.listing import COUNTED, Choices, Listing

from .formats import number
from .sparklines import Sparkline


@dataclass(frozen=True)
class JobFilter:
    """Which jobs the list shows; it lives in the address."""

    status: str | None = None
    tag: str | None = None
    worker: str | None = None
    submitter: str | None = None
    q: str | None = None
    sort: str | None = None
    cursor: str | None = None
    back: str | None = None

    def query(self, **changes: str | None) -> dict[str, str]:
        """The address's parameters after changes; a changed filter begins at the first page."""
        values: dict[str, str | None] = dict(vars(self))
        if changes:
            values |= {"cursor": None, "back": None, **changes}
        return {name: value for name, value in values.items() if value}

    @property
    def narrows(self) -> bool:
        """Whether any job may be hidden."""
        return bool(self.status or self.narrows_within or self._only_running)

    @property
    def narrows_within(self) -> bool:
        """Whether jobs of a status may be hidden."""
        return bool(self.tag or self.worker or self.submitter or self.q)

    @property
    def _only_running(self) -> bool:
        return self.sort == Sort.LONGEST and self.may_be_longest

    @property
    def may_be_longest(self) -> bool:
        """Whether jobs can be sorted by how long they run: only running ones do."""
        return self.status in {None, Status.RUNNING}

    def of_status(self, status: str | None) -> dict[str, str]:
        """As `query`, for the jobs in a status; an order that has no other ones is given up."""
        keeps = not self._only_running or status == Status.RUNNING
        return self.query(status=status, sort=self.sort if keeps else None)

    @property
    def shown_status(self) -> str | None:
        """The status of the jobs that are shown."""
        return Status.RUNNING if self._only_running else self.status


@dataclass(frozen=True)
class TabState:
    """What the browser's tab says of a page."""

    word: str
    """How things stand."""
    name: str
    """Of the page."""


@dataclass(frozen=True)
class Tab:
    """A status to filter by, and how many jobs are in it."""

    status: str | None
    label: str
    count: str | None
    """None where it would be of more jobs than the list shows."""
    current: bool


@dataclass(frozen=True)
class Outcomes:
    """What was asked to be done to several jobs, and what became of each."""

    action: Action | None
    """None for what could not be done at all."""
    each: list[Outcome]
    complaint: str | None = None
    """Why nothing was done."""

    _DONE = MappingProxyType(
        {
            Action.CANCEL: "Cancel asked for",
            Action.RETRY: "Handed in again",
            Action.DELETE: "Deleted",
        }
    )

    @property
    def summary(self) -> str:
        """In one sentence."""
        if self.action is None:
            return self.complaint or ""
        done, asked = len(self.done), len(self.each)
        jobs = "job" if asked == 1 else "jobs"
        number = f"{done} {jobs}" if done == asked else f"{done} of {asked} {jobs}"
        return f"{self._DONE[self.action]}: {number}."

    @property
    def done(self) -> list[Outcome]:
        """The jobs to which it was done."""
        return [one for one in self.each if one.refused is None]

    @property
    def refused(self) -> list[Outcome]:
        """The jobs to which it was not done."""
        return [one for one in self.each if one.refused is not None]


@dataclass(frozen=True)
class DeleteContext:
    """The question before jobs are deleted, for browsers without JavaScript."""

    job_ids: list[int]
    filter: JobFilter
    once: str


@dataclass(frozen=True)
class JobListContext:
    """The list of jobs: part of the dashboard, and a fragment of its own."""

    now: datetime
    listed: Listing
    filter: JobFilter
    choices: Choices
    """What it can be narrowed to."""
    sparklines: dict[int, Sparkline]
    """By the numbers of the jobs that have one."""
    ends: dict[int, datetime]
    """When jobs will probably be done."""
    outcomes: Outcomes | None = None
    """What has just been done to jobs."""

    SORTS = (
        (Sort.NEWEST, "Newest first"),
        (Sort.OLDEST, "Oldest first"),
        (Sort.PRIORITY, "Highest priority"),
        (Sort.LONGEST, "Longest running"),
    )

    @property
    def once(self) -> str:
        """Makes what is asked for on this very page happen once, however often it is sent.

        A retry makes a job, and the next page has another word for the next one.
        """
        return f"list-{self.listed.newest}"

    @property
    def tabs(self) -> list[Tab]:
        """All statuses, with the jobs in each unless the list is narrowed in another way."""
        counts, current = self.listed.counts, self.filter.shown_status
        if self.filter.narrows_within:
            statuses = [None, *Status]
            return [Tab(one, (one or "All").capitalize(), None, current == one) for one in statuses]
        is_whole = max(counts.values()) < COUNTED
        every = Tab(None, "All", _count(sum(counts.values()), whole=is_whole), not current)
        return [every] + [
            Tab(
                status,
                status.capitalize(),
                _count(counts[status], whole=counts[status] < COUNTED),
                current == status,
            )
            for status in Status
        ]

    @property
    def tab(self) -> TabState:
        """What the browser's tab says."""
        return TabState(f"{self.listed.counts.get(Status.RUNNING, 0)} running", "Jobs")

    @property
    def nothing_yet(self) -> bool:
        """Whether no job was ever handed in."""
        return not self.filter.narrows and not sum(self.listed.counts.values())


def _count(number: int, *, whole: bool) -> str:
    return f"{number:,}" if whole else f"{number:,}+"


@dataclass(frozen=True)
class FormField:
    """One field of the form that hands in a job, named as in the job spec."""

    name: str
    label: str
    hint: str = ""
    placeholder: str = ""
    kind: str = "text"
    """`text`, `lines`, or `choice`."""
    choices: tuple[str, ...] = ()
    input_mode: str = "text"


@dataclass(frozen=True)
class SubmitForm:
    """The form that hands in a job, as it was filled in."""

    first: tuple[FormField, ...]
    more: tuple[FormField, ...]
    entries: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    """Why the last try was refused."""
    error_field: str | None = None

    @property
    def file_is_wrong(self) -> bool:
        """Whether the complaint is about the file, or about nothing that has a field."""
        names = {one.name for one in self.first + self.more}
        return self.error is not None and self.error_field not in names

    @property
    def more_is_open(self) -> bool:
        """Whether one of the folded fields is filled in or at fault."""
        return any(self.entries.get(one.name) or one.name == self.error_field for one in self.more)


@dataclass(frozen=True)
class DashboardContext:
    """`/`."""

    jobs: JobListContext
    form: SubmitForm
    address: str
    """Of this server, as the browser knows it."""


@dataclass(frozen=True)
class WorkersContext:
    """`/workers`."""

    now: datetime
    workers: list[Worker]
    names: dict[int, str]
    """What the running jobs are called."""
    address: str
    """Of this server, as the browser knows it."""

    @property
    def online(self) -> int:
        """How many workers are there, also those that take nothing new."""
        return sum(worker.state != "offline" for worker in self.workers)

    @property
    def running(self) -> int:
        """How many jobs they run."""
        return sum(len(worker.jobs) for worker in self.workers)

    @property
    def tab(self) -> TabState:
        """What the browser's tab says."""
        return TabState(f"{self.online} of {len(self.workers)} online", "Workers")


@dataclass(frozen=True)
class WorkerContext:
    """`/workers/<id>`, and what of it changes with the worker: a fragment of its own."""

    now: datetime
    worker: Worker
    names: dict[int, str]
    """What the running jobs are called."""
    offers: list[Offer]
    has_code: bool
    """Whether the browser's session knows the owner's code."""
    complaint: str | None = None
    """Why the last answer was not taken."""

    @property
    def tab(self) -> TabState:
        """What the browser's tab says."""
        waiting = len(self.offers)
        return TabState(f"{waiting} to answer" if waiting else self.worker.state, self.worker.name)

    @staticmethod
    def needs(spec: JobSpec) -> str:
        """What a job wants to have set aside."""
        amounts = ((spec.cpus, "CPUs"), (spec.memory_gb, "GB of memory"), (spec.gpus, "GPUs"))
        return ", ".join(f"{number(amount)} {what}" for amount, what in amounts if amount)


@dataclass(frozen=True)
class FilesContext:
    """`/workers/<id>/offers/<job>/files`."""

    worker: Worker
    job_id: int
    contents: BundleContents
    first: int
    """How many files stand before those that are shown."""

    PAGE = 500

    @property
    def shown(self) -> list[BundleEntry]:
        """The files on this page."""
        return self.contents.files[self.first : self.first + self.PAGE]

    @property
    def next(self) -> int | None:
        """The `first` of the following page."""
        end = self.first + self.PAGE
        return end if end < len(self.contents.files) else None
