"""Answers that contradict the results which they follow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ...model.conversation import AssistantMessage, Message, SkillMessage, UserMessage
from .counting import counts_found, counts_told, mentioned
from .findings import Case, Check, Problem

__all__ = ["faithful"]

_READ = re.compile(r"Read \d+ lines?:|Found no text")
_QUOTED = re.compile(
    r"\b(?:says?|saying|said|reads?|reading|written|text|words?|label|titled?)(?: is| are)?[:,]?\s+"
    r"(?:\"([^\"]{2,})\"|“([^”]{2,})”)",
    re.IGNORECASE,
)
_RETOLD = re.compile(
    r"translat|mean|english|german|french|spanish|language|spell|correct|shorten|summar|rewrit"
    r"|should|could|instead|replace|change|suggest",
    re.IGNORECASE,
)
"""Words with which something else than what was read is quoted."""


def faithful(case: Case) -> Iterator[Problem]:
    """Answers tell the counts and quote the texts that results hold.

    Said is only what is certain: a count where exactly one result of the turn counts the thing and
    nobody else named the number, a quotation where something was read and a word of it stands
    nowhere. Whether an answer tells everything is another question, which `turns.is_faithful` asks
    of models.
    """
    messages = case.record.messages
    starts = [n for n, message in enumerate(messages) if isinstance(message, UserMessage)]
    for start, stop in pairwise([*starts, len(messages)]):
        for place in range(start, stop):
            answer = messages[place]
            if isinstance(answer, AssistantMessage) and answer.text:
                results = [
                    message.result
                    for message in messages[start:place]
                    if isinstance(message, SkillMessage)
                ]
                found = [result.text for result in results if not result.error]
                said = [_said(message) for message in messages[:place]]
                yield from _wrong_counts(answer.text, found, said)
                yield from _wrong_quotes(answer.text, found, said, asked=said[start])


def _said(message: Message) -> str:
    return message.words if isinstance(message, UserMessage) else message.text


def _wrong_counts(answer: str, found: Sequence[str], said: Sequence[str]) -> Iterator[Problem]:
    counted = [{count.thing: count.number for count in counts_found(text)} for text in found]
    told: dict[str, list[int]] = {}
    for count in counts_told(answer):
        told.setdefault(count.thing, []).append(count.number)
    for thing, numbers in told.items():
        sources = [counts[thing] for counts in counted if thing in counts]
        if len(sources) != 1 or sources[0] in numbers:
            continue
        if set(numbers) & mentioned(said, thing):
            continue
        message = f"the answer tells {numbers[0]} of {thing!r}, the result {sources[0]}"
        yield Problem(Check.WRONG_COUNT, message)


def _wrong_quotes(
    answer: str, found: Sequence[str], said: Sequence[str], *, asked: str
) -> Iterator[Problem]:
    if not any(_READ.match(text) for text in found) or _RETOLD.search(f"{asked} {answer}"):
        return
    known = [_letters(text) for text in said]
    words = {word for text in known for word in text.split()}
    joined = "".join(known).replace(" ", "")
    for one, other in _QUOTED.findall(answer):
        for piece in re.split(r"…|\.\.\.| / ", one or other):
            quoted = _letters(piece)
            if quoted.replace(" ", "") not in joined and not words.issuperset(quoted.split()):
                told = f"the answer quotes {piece.strip()!r}, which nobody said and no result holds"
                yield Problem(Check.QUOTE_NOT_READ, told)


def _letters(text: str) -> str:
    """The words of a text, without case, signs and lines."""
    return " ".join(re.findall(r"\w+", text.casefold()))
