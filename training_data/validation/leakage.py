"""What stands in another split already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...model.conversation import UserMessage
from ...model.record import Record
from ..records.imported import Refusal
from ..records.report import Report
from ..records.transfer import read_each
from .duplicates import conversation_key, normal, text_key
from .findings import Case, Check, Problem
from .images import Pictures
from .near_texts import NearTexts

__all__ = ["NothingLeaked"]


class NothingLeaked:
    """No record says what one of another file does.

    That is the whole conversation word for word, a request about the same images, or a request
    in nearly the same words, which is a warning: other images make other tasks of it. The other
    files take about half a kilobyte of memory a record, this one none.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._conversations: dict[bytes, str] = {}
        self._asked: dict[bytes, str] = {}
        self._near = NearTexts()

    def read(self, path: Path, report: Report) -> None:
        """Remember the records of a file; those that are none are counted in `report` alone."""
        pictures = Pictures(path.parent, opened=self._pictures.opened)
        for one in read_each(path):
            if isinstance(one.outcome, Refusal):
                report.refuse(one.place, one.id, one.outcome)
                continue
            report.keep(one.place, one.outcome)
            record = one.outcome.record
            self._conversations.setdefault(conversation_key(record), one.place)
            for request, key in _requests(record, pictures):
                self._near.add(request.text, one.place)
                if key:
                    self._asked.setdefault(key, one.place)

    def __call__(self, case: Case) -> Iterator[Problem]:
        if same := self._conversations.get(conversation_key(case.record)):
            yield Problem(Check.LEAKED_CONVERSATION, f"the same words as {same}")
            return
        for request, key in _requests(case.record, self._pictures):
            told = repr(normal(request.text)[:80])
            if key and (same := self._asked.get(key)):
                yield Problem(
                    Check.LEAKED_IMAGE, f"{told} is asked about the same images in {same}"
                )
            elif near := self._near.near(request.text):
                place, overlap = near
                message = f"{told} has {overlap:.0%} of its words in common with one of {place}"
                yield Problem(Check.NEAR_REQUEST, message)


def _requests(record: Record, pictures: Pictures) -> Iterator[tuple[UserMessage, bytes | None]]:
    """The requests, each with the hash of its words and of the images shown by then, if any."""
    shown: list[str] = []
    for message in record.messages:
        if isinstance(message, UserMessage):
            files = (record.images[handle] for handle in message.images if handle in record.images)
            shown += [pictures.content(file) for file in files]
            yield message, text_key(normal(message.words), *shown) if shown else None
