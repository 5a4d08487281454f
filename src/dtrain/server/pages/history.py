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


def entries(events: Iterable[Event]) -> list[HistoryEntry]:
    """The events of a job for people, newest first."""
    found = [HistoryEntry(event.at, event.kind, _text(event)) for event in events]
    return found[::-1]


def _text(event: Event) -> str:
    sentence = _SENTENCES.get(event.kind, event.kind)
    text = sentence.format(
        attempt=event.data.get("attempt"), worker=event.data.get("worker") or "The worker"
    )
    reason = event.data.get("declined_because")
    return f"{text}: {reason}" if reason else text
