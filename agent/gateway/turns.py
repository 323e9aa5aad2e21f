"""A turn as an API client hears of it: what is said, what skills do, how it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ...skills.calls import SkillUse
from ...skills.errors import LlavaPlusError
from ..chats import ChatEvent, TurnBegan, TurnKept
from ..loop import CallsDecided, Step, TextDelta, TextWithdrawn, TurnFinished
from ..store.values import KeptTurn, TurnState
from .access import Access, Caller
from .errors import Conflict
from .skill_events import SkillEvents
from .wire import SkillEvent

__all__ = ["Heard", "Piece", "begun", "held"]

_STEP_BREAK = "\n\n"


async def held(
    access: Access, caller: Caller, events: AsyncGenerator[ChatEvent, None]
) -> AsyncGenerator[ChatEvent, None]:
    """The events of a turn, which counts as one of the caller's until it is over.

    Raises `TooManyRequests` at once.
    """
    async with aclosing(events):
        with access.turn(caller):
            async for event in events:
                yield event


async def begun(events: AsyncGenerator[ChatEvent, None]) -> TurnBegan:
    """The first event; what is wrong with the request is raised while it can have its status."""
    try:
        first = await anext(events)
    except BaseException:
        await events.aclose()
        raise
    assert isinstance(first, TurnBegan)
    return first


@dataclass(frozen=True)
class Piece:
    """What one event adds to an answer: words, or something that a skill does."""

    text: str = ""
    skill_event: SkillEvent | None = None


class Heard:
    """What has come of a turn so far: words, what skills did, calls handed back, its cost."""

    def __init__(self) -> None:
        self.skill_events: list[SkillEvent] = []
        self.handed_back: tuple[SkillUse, ...] = ()
        self.steps: tuple[Step, ...] = ()
        self._telling = SkillEvents()
        self._said: list[str] = []
        self._settled = 0
        self._between = False

    @property
    def text(self) -> str:
        """All that was said and not withdrawn; what comes after calls is a paragraph of its own."""
        return "".join(self._said)

    @property
    def cut_off(self) -> bool:
        """Whether the last reply would have gone on."""
        return bool(self.steps) and self.steps[-1].usage.cut_off

    def take(self, event: ChatEvent) -> list[Piece]:
        """Take in an event. Raises what kept the turn from an answer."""
        match event:
            case TextDelta(text):
                return [Piece(text=self._say(text))]
            case TextWithdrawn():
                del self._said[self._settled :]
                self._between = bool(self._said)
            case CallsDecided():
                self._settled, self._between = len(self._said), bool(self._said)
            case TurnFinished():
                event.raise_for_error()
                self.handed_back, self.steps = event.handed_back, event.steps
            case TurnKept():
                _check_answered(event.turn)
            case _:
                pass
        told = self._telling.of(event)
        self.skill_events += [one for one in told if one.type != "skill_progress"]
        return [Piece(skill_event=one) for one in told]

    def _say(self, text: str) -> str:
        text = f"{_STEP_BREAK}{text.lstrip()}" if self._between else text
        self._between = False
        self._said.append(text)
        return text


def _check_answered(turn: KeptTurn) -> None:
    """Raises what a turn without an answer ended with, where no event has told."""
    if turn.state is TurnState.STOPPED:
        raise Conflict("the turn was stopped before it had an answer")
    if turn.error:
        raise LlavaPlusError(turn.error.message)
