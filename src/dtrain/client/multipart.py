"""A form with one file in it (`multipart/form-data`), of any size, in little memory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

_PIECE = 64 * 1024
"""Bytes handed over at once."""
_BOUNDARY = secrets.token_hex(16)
"""What no file contains that was written without knowing it. The server's parser keeps what it has
made for a boundary, so a process has one."""
_QUOTED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Multipart:
    """Iterating over it gives the form's bytes; a second time gives them again.

    Args:
        fields: names and values; a name may be there more than once.
        file: the field `file`, from where it stands to its end; must be seekable.
        file_name: what the file is called.
        progress: called with the bytes done and the bytes in all.
    """

    def __init__(
        self,
        fields: Iterable[tuple[str, str]],
        file: BinaryIO,
        *,
        file_name: str,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.content_type = f"multipart/form-data; boundary={_BOUNDARY}"
        texts = [_part(name) + f"\r\n\r\n{value}\r\n" for name, value in fields]
        texts.append(
            f'{_part("file")}; filename="{file_name.translate(_QUOTED)}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        self._head = "".join(texts).encode(errors="surrogateescape")
        self._tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        self._file = file
        self._start = file.tell()
        self._file_length = file.seek(0, os.SEEK_END) - self._start
        self._progress = progress

    @property
    def length(self) -> int:
        """Bytes of the whole form."""
        return len(self._head) + self._file_length + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        for piece in self._pieces():
            yield piece
            done += len(piece)
            if self._progress:
                self._progress(done, self.length)

    def _pieces(self) -> Iterator[bytes]:
        yield self._head
        self._file.seek(self._start)
        left = self._file_length
        while left and (piece := self._file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
        yield self._tail


def _part(name: str) -> str:
    return f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name.translate(_QUOTED)}"'
