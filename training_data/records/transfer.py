"""Records from file to file, imported or exported, one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ...model.record import Record
from ...skills.skill import describe_validation
from . import llava_plus_export, openai_messages, trl_export
from .formats import FORMATS, recognised
from .found import Found, Told, Unreadable
from .image_files import ImageFiles, rebased
from .imported import Imported, Raw, Reason, Refusal, Repair
from .parquet import written_rows
from .report import Report, reporting
from .streams import read_values, written

__all__ = [
    "TARGETS",
    "Notes",
    "Read",
    "export_file",
    "import_files",
    "read_each",
    "read_records",
]

_PEEKED = 100
"""Records by which the format of a file is recognised."""

_MALFORMED = (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError)
"""What reading somebody else's record may raise where its shape was not foreseen."""


class _Layout(NamedTuple):
    """What stands before, between and behind the records of a file."""

    before: str
    between: str
    behind: str


_LINES, _ARRAY = _Layout("", "\n", "\n"), _Layout("[\n", ",\n", "\n]\n")

TARGETS = {"llava-plus": _ARRAY, "trl": _LINES}
"""The formats that can be exported."""


@dataclass(frozen=True)
class Notes:
    """Files beside the records: `refused` with those refused, `report` with what became of each.

    `told` is given the number of bytes that have been read.
    """

    refused: Path
    report: Path | None = None
    told: Told = lambda size: None


class _Item(NamedTuple):
    """Something of a file: a record, or a line that is none."""

    place: str
    found: Found | Unreadable

    @property
    def raw(self) -> Raw:
        """The record. Raises `Refusal` when it is none."""
        if isinstance(self.found, Unreadable):
            raise Refusal(Reason.NOT_JSON, self.found.problem)
        if not isinstance(self.found.value, dict):
            raise Refusal(Reason.NOT_THIS_FORMAT, f"it is no object: {self.found.value!r:.80}")
        return {"id": self.found.key, **self.found.value} if self.found.key else self.found.value

    def refused(self, problem: Refusal) -> dict[str, Any]:
        """The line of the file of refused records."""
        reason = {"place": self.place, "refused": str(problem.reason), "because": str(problem)}
        if isinstance(self.found, Unreadable):
            return {**reason, "line": self.found.text}
        return {**reason, "record": self.found.value}

    @property
    def id(self) -> str:
        """The id of the record, or its place where it has none."""
        value = {} if isinstance(self.found, Unreadable) else self.found.value
        names = ("unique_id", "id", "image_id", "question_id")
        known = (value[name] for name in names if isinstance(value, dict) and name in value)
        return str(next(known, "")) or getattr(self.found, "key", "") or self.place


Take = Callable[[_Item], tuple[Imported, str]]
"""A record, and the text that is written of it. Raises `Refusal`."""

Put = Callable[[Record, str], None]
"""Writes a record, or the text of it."""


def import_files(
    sources: Sequence[Path],
    out: Path,
    notes: Notes,
    *,
    format: str | None = None,
    roots: Sequence[Path] = (),
) -> Report:
    """Import files into one file of records, one a line, or a Parquet table if `out` is named so.

    Their format is recognised where it is not named; images are looked for under `roots`. Raises
    `BadInput` when a file cannot be read at all.
    """
    images = ImageFiles(roots, out.parent)

    def items() -> Iterator[tuple[_Item, Take]]:
        for source, told in _one_by_one(sources, notes.told):
            values = read_values(source, told)
            peeked = list(islice(values, _PEEKED))
            name = format or recognised(one.value for one in peeked if isinstance(one, Found))
            take = partial(_imported, FORMATS[name].read, images)
            for one in chain(peeked, values):
                yield _Item(f"{source.name}:{one.place}", one), take

    sink = _table(out) if out.suffix == ".parquet" else _text(out, _LINES)
    return _transfer(items(), sink, notes)


def _imported(
    read: Callable[[Raw], Imported], images: ImageFiles, item: _Item
) -> tuple[Imported, str]:
    imported = read(item.raw)
    record, repairs = images.resolved(imported.record), imported.repairs
    if not record.id:
        record = record.model_copy(update={"id": item.place})
        repairs = (*repairs, Repair.ID_ADDED)
    return replace(imported, record=record, repairs=repairs), record.to_line()


def export_file(source: Path, out: Path, notes: Notes, *, to: str) -> Report:
    """Export records: `llava-plus`, one JSON array, or `trl`, JSON lines.

    Raises `BadInput` when `source` cannot be read at all.
    """

    def take(item: _Item) -> tuple[Imported, str]:
        imported = openai_messages.read(item.raw)
        if to == "trl":
            raw = trl_export.write(rebased(imported.record, source.parent, None))
        else:
            raw = llava_plus_export.write(rebased(imported.record, source.parent, out.parent))
        return imported, json.dumps(raw, ensure_ascii=False)

    values = read_values(source, notes.told)
    items = ((_Item(f"{source.name}:{one.place}", one), take) for one in values)
    return _transfer(items, _text(out, TARGETS[to]), notes)


class Read(NamedTuple):
    """What stands at a place of a file, from 1: a record, or why it is none."""

    number: int
    place: str
    id: str
    outcome: Imported | Refusal


def read_each(source: Path, told: Told = lambda size: None) -> Iterator[Read]:
    """Everything that stands in a file of records, in order.

    Raises `BadInput` when `source` cannot be read at all.
    """
    for one in read_values(source, told):
        item = _Item(f"{source.name}:{one.place}", one)
        outcome: Imported | Refusal
        try:
            outcome, _ = _taken(item, lambda item: (openai_messages.read(item.raw), ""))
        except Refusal as problem:
            outcome = problem
        yield Read(one.place, item.place, item.id, outcome)


def read_records(source: Path, report: Report, told: Told = lambda size: None) -> Iterator[Record]:
    """The records of a file; those that are none are counted in `report` alone."""
    for read in read_each(source, told):
        if isinstance(read.outcome, Refusal):
            report.refuse(read.place, read.id, read.outcome)
            continue
        report.keep(read.place, read.outcome)
        yield read.outcome.record


@contextmanager
def _text(out: Path, layout: _Layout) -> Iterator[Put]:
    """A text file that is there when all of it has been written."""
    with written(out) as file:
        between = ""
        file.write(layout.before)

        def put(record: Record, line: str) -> None:
            nonlocal between
            file.write(between + line)
            between = layout.between

        yield put
        file.write(layout.behind if between or layout.before else "")


@contextmanager
def _table(out: Path) -> Iterator[Put]:
    """A Parquet table that is there when all of it has been written."""
    with written_rows(out) as put:
        yield lambda record, line: put(record)


def _transfer(
    items: Iterator[tuple[_Item, Take]], sink: AbstractContextManager[Put], notes: Notes
) -> Report:
    with sink as put, written(notes.refused) as refused, reporting(notes.report) as report:
        for item, take in items:
            try:
                imported, line = _taken(item, take)
            except Refusal as problem:
                report.refuse(item.place, item.id, problem)
                refused.write(json.dumps(item.refused(problem), default=repr) + "\n")
                continue
            put(imported.record, line)
            report.keep(item.place, imported)
    if not report.refused:
        notes.refused.unlink()
    return report


def _taken(item: _Item, take: Take) -> tuple[Imported, str]:
    """A record and its line. Raises `Refusal`, whatever is wrong with it."""
    try:
        imported, line = take(item)
        line.encode()  # half a pair of surrogates is no text
    except Refusal:
        raise
    except ValidationError as error:
        raise Refusal(Reason.NOT_THIS_FORMAT, describe_validation(error)) from error
    except _MALFORMED as error:
        problem = f"it has another shape than expected: {type(error).__name__}: {error}"
        raise Refusal(Reason.NOT_THIS_FORMAT, problem) from error
    return imported, line


def _one_by_one(sources: Sequence[Path], told: Told) -> Iterator[tuple[Path, Told]]:
    """The files, each with what it tells of its bytes counted on from those before it."""
    before = 0
    for source in sources:
        yield source, partial(_told_on, told, before)
        before += source.stat().st_size


def _told_on(told: Told, before: int, size: int) -> None:
    told(before + size)
