"""Validating a file of records: all checks on each, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ...model.record import Record
from ..records.image_files import rebased
from ..records.imported import Refusal, Repair
from ..records.report import Report
from ..records.streams import written
from ..records.transfer import Read, read_each
from .boxes import BoxesInside
from .duplicates import NoDuplicates
from .faithfulness import faithful
from .findings import Case, Check, Problem, RecordCheck
from .handles import handles_known
from .images import ImagesOpen, Pictures
from .leakage import NothingLeaked
from .lengths import ShortEnough, answered
from .report import Validation
from .schema import CallsFit
from .whole_text import text_whole

__all__ = ["Demands", "validate"]


@dataclass(frozen=True)
class Demands:
    """What is asked of records beyond what always is.

    `against` are files that must have nothing in common with them; `longest` is in tokens of the
    model `lmm`. Without `images` no image is opened. When `strict`, warnings count as errors.
    """

    images: bool = True
    against: Sequence[Path] = ()
    lmm: str = "embedded"
    longest: int | None = None
    strict: bool = False


def validate(
    source: Path,
    demands: Demands,
    *,
    findings: Path | None = None,
    clean: Path | None = None,
    told: Callable[[int], None] = lambda size: None,
) -> Validation:
    """Check every record of `source`.

    `findings` gets each finding as a line of JSON, `clean` the records that pass; `told` is given
    the number of bytes that have been read. Raises `BadInput` when a file cannot be read at all,
    `BadConfiguration` when there is no such model.
    """
    pictures = Pictures(source.parent, opened=demands.images)
    others = NothingLeaked(pictures)
    read = {path: _remember(others, path) for path in demands.against}
    checks = _checks(demands, pictures, others)
    with ExitStack() as files:
        details, out = (
            files.enter_context(written(path)) if path else None for path in (findings, clean)
        )
        validation = Validation(details, strict=demands.strict)
        validation.others = {str(path): counts for path, counts in read.items()}
        for one in read_each(source, told):
            id = one.id if one.id != one.place else ""
            passes = validation.add(one.number, id, _problems(one, checks))
            if isinstance(one.outcome, Refusal):
                continue
            validation.left_out.update(one.outcome.left_out)
            if out and clean and passes:
                _write(one.outcome.record, source, clean, out)
                validation.written += 1
    return validation


def _checks(demands: Demands, pictures: Pictures, others: NothingLeaked) -> list[RecordCheck]:
    checks: list[RecordCheck] = [CallsFit(), handles_known, BoxesInside(pictures), answered]
    checks += [faithful, NoDuplicates(pictures)]
    if demands.images:
        checks.append(ImagesOpen(pictures))
    if demands.against:
        checks.append(others)
    if demands.longest is not None:
        from ..sequences import Sequences

        sequences = Sequences(demands.lmm, ranked=False)
        checks.append(ShortEnough(sequences, demands.longest, pictures))
    return checks


def _remember(others: NothingLeaked, path: Path) -> dict[str, int]:
    report = Report()
    others.read(path, report)
    return {"records": report.kept, "unreadable": report.refused}


def _problems(one: Read, checks: Sequence[RecordCheck]) -> list[Problem]:
    """What is wrong with a record, or why it is none."""
    if isinstance(one.outcome, Refusal):
        return [Problem(one.outcome.reason, str(one.outcome))]
    case = Case(one.number, one.outcome.record)
    if broken := list(text_whole(case)):
        return broken
    problems = [_repaired(repair) for repair in dict.fromkeys(one.outcome.repairs)]
    return problems + [problem for check in checks for problem in check(case)]


def _repaired(repair: Repair) -> Problem:
    """What reading the record had to change."""
    if repair is Repair.UNANSWERED_LEFT_OUT:
        return Problem(Check.NO_ANSWER, "the last request has no answer")
    return Problem(repair, "not in the form of this project; `data import` and --clean write it so")


def _write(record: Record, source: Path, clean: Path, out: TextIO) -> None:
    out.write(f"{rebased(record, source.parent, clean.parent).to_line()}\n")
