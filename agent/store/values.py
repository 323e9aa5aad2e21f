"""What the store gives back: turns, conversations and files as pure values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from ...model.conversation import AssistantMessage, Conversation, Message, SkillMessage, UserMessage
from ...skills.calls import SkillProblem, SkillResult, SkillSpec
from ...skills.errors import BadInput, DeadlineExceeded, WorkerUnavailable
from ...skills.geometry import Mask
from ...skills.images import ImageRef

__all__ = [
    "Grown",
    "KeptConversation",
    "KeptFile",
    "KeptTurn",
    "NotKept",
    "StoreUnavailable",
    "TurnState",
    "Vote",
    "restored",
]


_MACHINES_FAILED = {WorkerUnavailable.__name__, DeadlineExceeded.__name__}


class NotKept(BadInput):
    """The owner has no such conversation, turn, file or artifact; another owner may have it."""


class StoreUnavailable(WorkerUnavailable):
    """The database or the place of the artifacts cannot be reached, is full, or is damaged."""

    def __init__(self, message: str) -> None:
        super().__init__(message, told="conversations cannot be read or kept just now: try later")


class TurnState(StrEnum):
    """How far a turn has come.

    A finished one ended with an answer, or with calls that were handed back to the client. A
    failed one has an `error`. The person stopped a stopped one, or the client went away. The
    gateway of an interrupted one died, which is known when its lease has run out.
    """

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


class Vote(StrEnum):
    """What a person thinks of an answer; a flag asks somebody to look at it."""

    UP = "up"
    DOWN = "down"
    FLAG = "flag"


@dataclass(frozen=True)
class Grown:
    """What a conversation has beyond an earlier state of it: messages, and handles new in them."""

    messages: tuple[Message, ...]
    images: Mapping[str, ImageRef]
    masks: Mapping[str, Mask]

    @classmethod
    def between(cls, before: Conversation, after: Conversation) -> Grown:
        """What `after`, which begins with the messages of `before`, has beyond it."""
        return cls(
            messages=after.messages[len(before.messages) :],
            images={h: ref for h, ref in after.images.items() if before.images.get(h) != ref},
            masks={h: mask for h, mask in after.masks.items() if before.masks.get(h) != mask},
        )


@dataclass(frozen=True)
class KeptTurn:
    """A request and all that was said and made in reply. `parent` is the turn before it.

    Turns with one parent are branches: the request in other words, or answered anew. `images`
    and `masks` are the handles that are new in this turn; `seconds` is how long it took, `steps`
    what each reply cost. `created` and `finished` are in UTC.
    """

    id: str
    conversation: str
    parent: str | None
    state: TurnState
    messages: tuple[Message, ...]
    images: Mapping[str, ImageRef]
    masks: Mapping[str, Mask]
    seconds: float
    steps: tuple[Mapping[str, Any], ...]
    error: SkillProblem | None
    vote: Vote | None
    comment: str
    created: datetime
    finished: datetime | None


@dataclass(frozen=True)
class KeptConversation:
    """A conversation without its turns; `head` is the turn that was last begun."""

    id: str
    owner: str
    title: str
    lmm: str
    skills: tuple[SkillSpec, ...]
    head: str | None
    created: datetime
    updated: datetime


@dataclass(frozen=True)
class KeptFile:
    """A file that a client uploaded; `bytes` is its size, `sha256` the hash of its content."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created: datetime
    sha256: str
    media_type: str


def restored(path: Sequence[KeptTurn], skills: Sequence[SkillSpec]) -> Conversation:
    """The conversation along `path`, from its root to its last turn.

    A reply stands only with the results of all its calls, as chat templates need it; that a worker
    failed is no result, so neither an LMM nor a record is told of it. Calls at the very end may
    still wait for results when their turn is finished, because they were handed back.
    """
    grown = Grown(
        messages=tuple(message for turn in path for message in turn.messages),
        images={handle: ref for turn in path for handle, ref in turn.images.items()},
        masks={handle: mask for turn in path for handle, mask in turn.masks.items()},
    )
    waiting = bool(path) and path[-1].state is TurnState.FINISHED
    whole = replace(grown, messages=tuple(_whole(grown.messages, waiting=waiting)))
    # The next image takes the number of one whose message is left out.
    gone = _handles(grown.messages) - _handles(whole.messages)
    return Conversation(
        skills=tuple(skills),
        messages=whole.messages,
        images={handle: ref for handle, ref in grown.images.items() if handle not in gone},
        masks={handle: mask for handle, mask in grown.masks.items() if handle not in gone},
    )


def _whole(messages: Sequence[Message], *, waiting: bool) -> Iterator[Message]:
    """The messages without replies whose calls lack results; `waiting` spares the last ones."""
    place = 0
    while place < len(messages):
        end = place + 1
        while end < len(messages) and isinstance(messages[end], SkillMessage):
            end += 1
        exchange = messages[place:end]
        if _answered(exchange) or (waiting and end == len(messages)):
            yield from exchange
        place = end


def _answered(exchange: Sequence[Message]) -> bool:
    said, *results = exchange
    calls = {use.id for use in said.skill_uses} if isinstance(said, AssistantMessage) else set()
    brought = (m.result for m in results if isinstance(m, SkillMessage))
    return calls <= {result.id for result in brought if not _of_machines(result)}


def _of_machines(result: SkillResult) -> bool:
    """Whether the call came to nothing because of a worker."""
    return result.error is not None and result.error.kind in _MACHINES_FAILED


def _handles(messages: Sequence[Message]) -> set[str]:
    named: set[str] = set()
    for message in messages:
        if not isinstance(message, AssistantMessage):
            named.update(message.images)
        if isinstance(message, SkillMessage):
            named.update(message.masks)
        if isinstance(message, UserMessage) and message.marks:
            named.update(message.marks.masks)
    return named
