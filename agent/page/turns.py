"""A turn as the page shows it: from events while it runs, from the store afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...model.conversation import AssistantMessage, Message, SkillMessage, UserMessage
from ...skills.calls import SkillProblem, SkillResult, SkillUse
from ..loop import (
    CallProgressed,
    CallsDecided,
    ResultArrived,
    StepFinished,
    TextDelta,
    TextWithdrawn,
    TurnEvent,
    TurnFinished,
)
from ..store.values import KeptTurn, TurnState, Vote

__all__ = ["Called", "Said", "ShownTurn", "Thought"]


@dataclass
class Said:
    """Text of the LMM, as far as it has come."""

    text: str


@dataclass
class Thought:
    """What the LMM thought before it called or spoke."""

    text: str


@dataclass
class Called:
    """A call, and what it brought when it has come back."""

    use: SkillUse
    result: SkillResult | None = None
    handles: tuple[str, ...] = ()
    seconds: float | None = None
    progress: str = ""


@dataclass
class ShownTurn:
    """A request and all that followed it so far."""

    id: str
    request: UserMessage | None
    state: TurnState
    parts: list[Said | Thought | Called] = field(default_factory=list)
    problem: SkillProblem | None = None
    vote: Vote | None = None
    answered: int = 0
    """So many of the parts are of steps that are complete."""

    @classmethod
    def of(cls, turn: KeptTurn) -> list[ShownTurn]:
        """A turn as it was kept: one, or one for each request of a history that a client sent."""
        shown: list[ShownTurn] = []
        seconds = _seconds(turn.steps)
        for request, replies in _exchanges(turn.messages):
            shown.append(cls(turn.id, request, TurnState.FINISHED))
            shown[-1].parts = list(_parts(replies, seconds))
        if shown:
            last = shown[-1]
            last.state, last.problem, last.vote = turn.state, turn.error, turn.vote
        return shown

    def note(self, event: TurnEvent) -> None:
        """Take in what happened."""
        match event:
            case TextDelta(text):
                self._say(text)
            case TextWithdrawn():
                del self.parts[self.answered :]
            case CallsDecided(uses):
                self.parts += [Called(use) for use in uses]
            case CallProgressed(use, progress):
                if called := self._call(use.id):
                    called.progress = f"{progress.done} of {progress.total} {progress.what}"
            case ResultArrived(result, seconds):
                if called := self._call(result.id):
                    called.result, called.seconds = result, seconds
            case StepFinished():
                self.answered = len(self.parts)
            case TurnFinished(error=error) if error:
                self.problem = SkillProblem(kind=error.kind, message=error.told)

    def _say(self, text: str) -> None:
        last = self.parts[-1] if len(self.parts) > self.answered else None
        if isinstance(last, Said):
            last.text += text
        else:
            self.parts.append(Said(text))

    def _call(self, id_: str) -> Called | None:
        calls = (part for part in self.parts if isinstance(part, Called))
        return next((call for call in calls if call.use.id == id_), None)


def _exchanges(
    messages: Sequence[Message],
) -> Iterator[tuple[UserMessage | None, Sequence[Message]]]:
    """Each request with what followed it; a turn that goes on with results has none."""
    starts = [place for place, said in enumerate(messages) if isinstance(said, UserMessage)]
    if messages and 0 not in starts:
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
        said = messages[start]
        if isinstance(said, UserMessage):
            yield said, messages[start + 1 : end]
        else:
            yield None, messages[start:end]


def _parts(
    messages: Sequence[Message], seconds: Mapping[str, float]
) -> Iterator[Said | Thought | Called]:
    results = {m.result.id: m for m in messages if isinstance(m, SkillMessage)}
    for message in messages:
        if not isinstance(message, AssistantMessage):
            continue
        if message.thoughts:
            yield Thought(message.thoughts)
        if message.text:
            yield Said(message.text)
        for use in message.skill_uses:
            brought = results.get(use.id)
            yield Called(
                use,
                brought.result if brought else None,
                brought.images if brought else (),
                seconds.get(use.id),
            )


def _seconds(steps: tuple[Mapping[str, Any], ...]) -> dict[str, float]:
    """Of each call, by its id."""
    return {id_: float(took) for step in steps for id_, took in step["skill_seconds"].items()}
