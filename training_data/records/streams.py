"""Files of records of any size, read and written one record at a time.

A file is JSON lines, one JSON array (LLaVA's hold hundreds of megabytes), one JSON object of
records by number (GTA, ScienceQA), or a Parquet table.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from ...skills.errors import BadInput
from .found import Found, Told, Unreadable
from .parquet import is_table, read_rows

__all__ = ["LARGEST", "read_values", "written"]

LARGEST = 64 * 1024 * 1024
"""Characters that one record may have."""

_CHUNK = 1 << 18
_HEAD = 1 << 16
"""Bytes by which it is told how the records of a file are laid out."""

_NUMBERED = re.compile(r'\{\s*"\d+"\s*:\s*\{')
_SPACE = re.compile(r"[ \t\r\n]*")
_DELIMITERS = tuple(" \t\r\n,:]}")
_GOES_ON = ("{", "[", ":", ",")
"""Where a record that stands over several lines may be broken before a brace."""

_DECODER = json.JSONDecoder()


def read_values(path: Path, told: Told = lambda size: None) -> Iterator[Found | Unreadable]:
    """The records of a file, in order; a line of JSON lines that cannot be read stops no other.

    Raises `BadInput` when the file holds no records, or an array or object breaks off.
    """
    try:
        if is_table(path):
            yield from read_rows(path, told)
            return
        with path.open("rb") as file:
            yield from _values(file, told)
    except (BadInput, OSError) as error:
        raise BadInput(f"{path.name} cannot be read: {error}") from error


def _values(file: BinaryIO, told: Told) -> Iterator[Found | Unreadable]:
    head = file.read(_HEAD).decode("utf-8-sig", errors="replace").lstrip()
    file.seek(0)
    match head[:1]:
        case "[":
            yield from _array(_Text(file, told))
        case "{" if _NUMBERED.match(head):
            yield from _numbered(_Text(file, told))
        case "{" if _is_lines(head):
            yield from _lines(file, told)
        case "{":
            yield from _one_after_another(_Text(file, told))
        case "":
            raise BadInput("it is empty")
        case other:
            raise BadInput(f"it begins with {other!r}, not with a JSON object or array")


def _is_lines(head: str) -> bool:
    """Whether every line is a record: the first one is whole, or was cut off before the next."""
    first, more = (part.strip() for part in (head + "\n").split("\n", 1))
    is_whole = not more or first.endswith("}")
    return is_whole or (more.startswith("{") and not first.endswith(_GOES_ON))


def _lines(file: BinaryIO, told: Told) -> Iterator[Found | Unreadable]:
    size = place = 0
    while line := file.readline(LARGEST):
        size += len(line)
        told(size)
        place += 1
        if not line.strip():
            continue
        try:
            yield Found(place, json.loads(line.decode("utf-8-sig" if place == 1 else "utf-8")))
        except (ValueError, RecursionError) as error:
            yield Unreadable(place, line.decode(errors="replace").rstrip("\n"), str(error))


def _array(text: _Text) -> Iterator[Found]:
    text.take("[", "the array")
    place = 0
    ended = text.peek() == "]"
    if ended:
        text.take("]", "the end of the array")
    while not ended:
        place += 1
        yield Found(place, text.value())
        ended = text.take(",]", "a comma or the end of the array") == "]"
    text.check_ended()


def _numbered(text: _Text) -> Iterator[Found]:
    text.take("{", "the object")
    place = 0
    ended = False
    while not ended:
        place += 1
        key = text.value()
        if not isinstance(key, str):
            raise BadInput(f"{text.where}: {key!r} stands where the number of a record should")
        text.take(":", "a colon")
        yield Found(place, text.value(), key)
        ended = text.take(",}", "a comma or the end of the object") == "}"
    text.check_ended()


def _one_after_another(text: _Text) -> Iterator[Found]:
    place = 0
    while text.peek():
        place += 1
        yield Found(place, text.value())


class _Text:
    """The text of a file, of which only a part is in memory: `text`, read up to `at`."""

    def __init__(self, file: BinaryIO, told: Told) -> None:
        self.text = ""
        self.at = 0
        self._file = file
        self._told = told
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._ended = False
        self._passed = 0

    @property
    def where(self) -> str:
        """The place of the next character."""
        return f"at character {self._passed + self.at}"

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            if space := _SPACE.match(self.text, self.at):
                self.at = space.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._read_on():
                return ""

    def take(self, among: str, name: str) -> str:
        """Pass over one character of `among`. Raises `BadInput` when another one stands there."""
        character = self.peek()
        if not character or character not in among:
            raise BadInput(f"{self.where}: {name} is missing")
        self.at += 1
        return character

    def value(self) -> Any:
        """The next JSON value. Raises `BadInput` when it is broken, or too large."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                problem = f"{self.where}: it does not end"
                # A number may go on behind what has been read.
                if self._ended or self.text[end : end + 1] in _DELIMITERS:
                    self.at = end
                    return value
            except json.JSONDecodeError as error:
                problem = f"at character {self._passed + error.pos}: {error.msg}"
            except (ValueError, RecursionError) as error:
                problem = f"{self.where}: {error}"
            if len(self.text) - self.at > LARGEST:
                raise BadInput(f"{problem} (in {LARGEST:,} characters)")
            if not self._read_on():
                raise BadInput(problem)

    def check_ended(self) -> None:
        """Raises `BadInput` when more follows."""
        if more := self.peek():
            raise BadInput(f"{self.where}: {more!r} stands behind the last record")

    def _read_on(self) -> bool:
        """Read as much again as is not yet used, so that long values cost linear time."""
        if self._ended:
            return False
        kept = self.text[self.at :]
        data = self._file.read(max(_CHUNK, len(kept)))
        self._ended = not data
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise BadInput(f"it is not text in UTF-8: {error}") from error
        self._passed += self.at
        self.text, self.at = kept + more, 0
        self._told(self._file.tell())
        return True


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A file that is there when all of it has been written, and else as it was before."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
