"""Whether what a record says can be written as text."""

from __future__ import annotations

from collections.abc import Iterator

from ...model.record import Record
from .findings import Case, Check, Problem

__all__ = ["is_text", "text_whole"]


def text_whole(case: Case) -> Iterator[Problem]:
    """No text holds half of a character, which no tokenizer takes and no file."""
    if not is_text(case.record):
        told = "it holds half of a pair of surrogates (\\ud800 to \\udfff), which is no text"
        yield Problem(Check.BROKEN_TEXT, told)


def is_text(record: Record) -> bool:
    """Whether a record can be written in UTF-8."""
    try:
        record.to_line().encode()
    except UnicodeEncodeError:
        return False
    return True
