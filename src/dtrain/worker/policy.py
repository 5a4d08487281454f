"""The owner's rules: which jobs start unasked, and which are not wanted at all. Pure decisions.

They are applied on the worker, to what it was shown: no server decides for an owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from dtrain.protocol.duration import in_seconds
from dtrain.protocol.worker_messages import Offer

MEGABYTE = 1024**2

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
Texts = Text | Annotated[list[Text], msgspec.Meta(min_length=1, max_length=1000)]
"""One, or several of which any will do."""
Bound = Annotated[float, msgspec.Meta(ge=0)]


class Rule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Conditions that must all hold. One that is UNSET is none."""

    tag: Texts | UnsetType = UNSET
    """A tag that the job carries."""
    submitter: Texts | UnsetType = UNSET
    """Who hands it in, by their own word; `*` and `?` stand for anything."""
    name: Texts | UnsetType = UNSET
    """The job's name, or a pattern of it."""
    image: Texts | UnsetType | None = UNSET
    """The container image that the job names, or a pattern of it; None: it names none."""
    sha256: Texts | UnsetType = UNSET
    """The bundle."""
    max_bundle_mb: Bound | UnsetType = UNSET
    """The largest bundle, as a ZIP, in units of 1024² bytes."""
    max_time_limit: Bound | Text | UnsetType = UNSET
    """The longest time limit, in seconds or as `2h`; a job without one does not match."""
    max_memory_gb: Bound | UnsetType = UNSET
    """The most memory, in units of 1024³ bytes; a job that asks for none has no limit, and does
    not match."""
    max_gpus: Bound | UnsetType = UNSET
    """The most GPUs."""

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


CONDITIONS = tuple(field.name for field in msgspec.structs.fields(Rule))


class Word(Enum):
    """What the rules say of a job."""

    ASK = "ask"
    ACCEPT = "accept"
    DECLINE = "decline"


class Verdict(msgspec.Struct, frozen=True):
    """What the rules say of a job, and which rule says it, if one does."""

    word: Word
    rule: Rule | None = None


def judge(
    offer: Offer,
    *,
    accept_when: Sequence[Rule],
    decline_when: Sequence[Rule],
    otherwise: Word = Word.ASK,
) -> Verdict:
    """What becomes of an offer; not to be wanted weighs more."""
    for word, rules in ((Word.DECLINE, decline_when), (Word.ACCEPT, accept_when)):
        for rule in rules:
            if matches(rule, offer):
                return Verdict(word, rule)
    return Verdict(otherwise)


def matches(rule: Rule, offer: Offer) -> bool:
    """Whether all conditions of a rule hold for what is offered."""
    spec, bundle = offer.spec, offer.bundle
    return (
        _is_any(rule.tag, spec.tags)
        and _is_like(rule.submitter, offer.submitter)
        and _is_like(rule.name, spec.name)
        and _has_image(rule.image, spec.image)
        and _is_any(rule.sha256, [bundle.sha256])
        and _is_within(rule.max_bundle_mb, bundle.size / MEGABYTE)
        and _is_within(_seconds(rule.max_time_limit), spec.time_limit)
        and _is_within(rule.max_memory_gb, spec.memory_gb)
        and _is_within(rule.max_gpus, spec.gpus)
    )


def complaint_of(rule: Rule) -> str | None:
    """What is wrong with a rule that its types let through, as the end of a sentence."""
    if rule == Rule():
        return "a rule without conditions matches every job; set auto_accept_jobs if that is meant"
    if isinstance(rule.max_time_limit, str) and in_seconds(rule.max_time_limit) is None:
        return f"{rule.max_time_limit!r} is no duration; write seconds or something like 90s or 2h"
    if rule.sha256 is not UNSET:
        for digest in _texts(rule.sha256):
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                return f"{digest!r} is no SHA-256; write its 64 digits in lower case"
    return None


def _texts(condition: str | list[str]) -> list[str]:
    return [condition] if isinstance(condition, str) else condition


def _is_any(condition: str | list[str] | UnsetType, values: Sequence[str]) -> bool:
    return condition is UNSET or any(text in values for text in _texts(condition))


def _is_like(condition: str | list[str] | UnsetType, value: str | None) -> bool:
    if condition is UNSET:
        return True
    patterns = _texts(condition)
    return value is not None and any(value == one or fnmatchcase(value, one) for one in patterns)


def _has_image(condition: str | list[str] | UnsetType | None, image: str | None) -> bool:
    return image is None if condition is None else _is_like(condition, image)


def _is_within(bound: float | UnsetType, value: float | None) -> bool:
    return bound is UNSET or (value is not None and value <= bound)


def _seconds(limit: float | str | UnsetType) -> float | UnsetType:
    if isinstance(limit, str):
        return in_seconds(limit) or 0.0
    return limit
