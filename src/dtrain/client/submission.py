"""What a submission consists of: the fields of a form, and a bundle."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.bundle import PackSummary, pack
from dtrain.protocol.errors import Invalid
from dtrain.protocol.spec import parse_spec


def form_fields(raw: Mapping[str, object]) -> list[tuple[str, str]]:
    """The fields of a spec as a form carries them, once they have been found acceptable.

    Raises:
        Invalid: a field is not acceptable, or is of a kind that no form can carry.
    """
    spec = parse_spec(raw)
    fields: list[tuple[str, str]] = []
    for name, given in raw.items():
        if given == "" or (given is None and name != "requirements_file"):
            continue
        value = getattr(spec, name)
        texts = _texts(value)
        if len(texts) == 1 and isinstance(value, (list, dict)) and not _is_plain(name, texts[0]):
            raise Invalid(
                f"The field {name} holds a single item with line breaks, commas or blanks at its"
                " ends, which cannot be handed in; write it without, or give two items.",
                field=name,
            )
        if value is None:
            raise Invalid(
                f"The field {name} cannot be handed in as None; leave it out, and its file out of"
                " the bundle.",
                field=name,
            )
        fields += [(name, text) for text in texts]
    return fields


@contextmanager
def bundle_of(path: Path, packed: Callable[[PackSummary], None] | None) -> Iterator[BinaryIO]:
    """The ZIP to hand in: the file itself, or a folder packed into a temporary one."""
    if path.is_dir():
        with tempfile.TemporaryFile() as file:
            summary = pack(path, file)
            if packed:
                packed(summary)
            file.seek(0)
            yield file
        return
    if not path.exists():
        raise Invalid(
            f"There is no folder or ZIP file {str(path)!r}; check the path.", field="file"
        )
    if not zipfile.is_zipfile(path):
        raise Invalid(
            f"{str(path)!r} is neither a folder nor a ZIP file; hand in the folder that it is in.",
            field="file",
        )
    with path.open("rb") as file:
        yield file


def _texts(value: object) -> list[str]:
    """The texts of a form's field: one for each item of a list or pair of a map."""
    if isinstance(value, dict):
        return [f"{key}={text}" for key, text in value.items()]
    return list(value) if isinstance(value, list) else [str(value)]


def _is_plain(name: str, text: str) -> bool:
    """Whether a text alone is read as one item, as it stands."""
    if not text or "\n" in text or "\r" in text:
        return False
    return name in {"env", "labels"} or (
        text == text.strip() and ("," not in text or name != "tags")
    )
