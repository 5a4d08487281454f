"""What happened to a job, in words."""

from __future__ import annotations

from collections.abc import Iterable

from dtrain.protocol.messages import Event

from .contexts import HistoryEntry

_SENTENCES = {
    "submitted": "Handed in",
    "queued": "Waits in the queue",
    "offered": "Offered to a worker’s owner",
    "declined": "Declined by the owner of {worker}",
    "retry_wait": "Failed; another attempt follows",
    "claimed": "Attempt {attempt} taken by {worker}",
    "preparing": "{worker} prepares the environment",
    "executing": "{worker} runs the code",
    "finishing": "Ended on {worker}; what it left is fetched",
    "unreachable": "{worker} does not answer",
    "returned": "{worker} is back; attempt {attempt} goes on",
    "lost": "{worker} was lost; the job starts again",
    "cancel_asked": "Cancel asked for",
    "cancelling": "{worker} ends it",
    "completed": "Completed",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_BY = {"submitted": "Handed in by {by}", "cancel_asked": "Cancel asked for by {by}"}
_EXPLAINED = {"failed", "retry_wait"}
"""What the event's own message says more of."""


def entries(events: Iterable[Event], submitter: str | None = None) -> list[HistoryEntry]:
    """The events of a job for people, in their order.

    Args:
        events: what happened.
        submitter: who handed the job in.
    """
    return [
        HistoryEntry(event.id, event.at, event.kind, _text(event, submitter)) for event in events
    ]


def _text(event: Event, submitter: str | None) -> str:
    data = event.data
    by = submitter if event.kind == "submitted" else data.get("by")
    sentence = (_BY if by else _SENTENCES).get(event.kind) or _SENTENCES.get(event.kind)
    if sentence is None:
        return event.kind
    text = sentence.format(
        attempt=data.get("attempt"), worker=data.get("worker") or "The worker", by=by
    )
    reason = data.get("declined_because")
    if event.kind in _EXPLAINED:
        reason = data.get("message")
        text = text.partition(";")[0]
    return f"{text}: {reason}" if reason else text
