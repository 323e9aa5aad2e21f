"""Files of records, read by number: a million records take as much memory as their places."""

from __future__ import annotations

import hashlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ValidationError

from ...skills.errors import BadConfiguration, BadInput
from ..record import Record
from ..record_reading import read_record

__all__ = ["LONGEST", "RecordFile", "RecordFiles"]

LONGEST = 64 * 1024 * 1024
"""Bytes that the line of one record may have."""


class RecordFile:
    """The records of a JSON-lines file, from 0; empty lines count for nothing.

    It is read once, for the places of its lines, eight bytes each, and for `content_hash`, the
    SHA-256 of it all. Several threads and processes may share one. Raises `BadInput` when it
    cannot be read or has no lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts, self._empty = array("Q"), array("Q")
        try:
            with path.open("rb") as file:
                self.content_hash = self._index(file)
                self._state = _state(file)
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from error

    @property
    def folder(self) -> Path:
        """The folder from which the records name their images."""
        return self.path.parent

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Record:
        """One record. Raises `BadInput` when its line holds none.

        Raises `BadConfiguration` when the file is no longer the one that was indexed.
        """
        try:
            return read_record(self._line(number))
        except BadInput as error:
            raise BadInput(f"{self.place(number)}: {error}") from error

    def image_names(self, number: int) -> list[str]:
        """The image files that a record names, many times sooner read than all of it.

        A line that holds no record names none. Raises `BadConfiguration` as reading one does.
        """
        try:
            named = _Images.model_validate_json(self._line(number))
        except ValidationError:
            return []
        return [*named.images, *named.made.values()]

    def place(self, number: int) -> str:
        """The file and the line, from 1, of a record."""
        return f"{self.path.name}:{number + 1 + bisect_right(self._empty, number)}"

    def _line(self, number: int) -> bytes:
        start = self._starts[number]
        try:
            with self.path.open("rb") as file:
                if _state(file) != self._state:
                    raise BadConfiguration(f"{self.path} has changed while it was in use")
                file.seek(start)
                return file.readline(LONGEST)
        except OSError as error:
            raise BadConfiguration(f"{self.path} is lost: {error.strerror}") from error

    def _index(self, file: IO[bytes]) -> str:
        """Note where lines start, and before which records empty ones stand; the file's hash."""
        digest = hashlib.sha256()
        start = 0
        while line := file.readline(LONGEST + 1):
            if len(line) > LONGEST:
                raise BadInput(
                    f"{self.path} has a line of more than {LONGEST:,} bytes: it is not JSON lines; "
                    "`llava-plus data import` reads other formats"
                )
            digest.update(line)
            if line.isspace():
                self._empty.append(len(self._starts))
            else:
                self._starts.append(start)
            start += len(line)
        if not self._starts:
            raise BadInput(f"{self.path} is empty: it has no records")
        return digest.hexdigest()


class _Images(BaseModel):
    """The fields of a record's line that name image files."""

    images: list[str]
    made: dict[str, str]


class RecordFiles:
    """The records of several files, one file after the other."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.files = tuple(RecordFile(path) for path in paths)
        self._stops = list(accumulate(len(file) for file in self.files))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __getitem__(self, number: int) -> Record:
        file, number = self.find(number)
        return file[number]

    def find(self, number: int) -> tuple[RecordFile, int]:
        """The file that a record stands in, and its number there. Raises `IndexError`."""
        if not 0 <= number < len(self):
            raise IndexError(f"there is no record {number} of {len(self)}")
        index = bisect_right(self._stops, number)
        return self.files[index], number - (self._stops[index - 1] if index else 0)

    @property
    def content_hash(self) -> str:
        """A hash of what all files hold, in their order."""
        hashes = " ".join(file.content_hash for file in self.files)
        return hashlib.sha256(hashes.encode()).hexdigest()


def _state(file: IO[bytes]) -> tuple[int, int]:
    """The size of a file, and when it was last written to, in nanoseconds."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
