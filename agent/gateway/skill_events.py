"""What happens in a turn beside its text, as clients are told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...model.conversation import Conversation, SkillMessage
from ...skills.calls import SkillResult, SkillUse
from ..chats import ChatEvent
from ..loop import CallProgressed, CallsDecided, ResultArrived, Step, StepFinished, TextWithdrawn
from .wire import CompletionUsage, Made, PromptDetails, SkillEvent

__all__ = ["SkillEvents", "artifact_url", "made_by", "usage_of"]


class SkillEvents:
    """Tells of the events of one turn, in their order.

    A result is told as soon as it is there; one that made something when its handles are known.
    """

    def __init__(self) -> None:
        self._held: dict[str, float] = {}

    def of(self, event: ChatEvent) -> list[SkillEvent]:
        """What a client is told of an event."""
        match event:
            case CallsDecided():
                return [_use(use) for use in event.uses]
            case CallProgressed(use, progress):
                told = SkillEvent(
                    type="skill_progress", id=use.id, name=use.name, progress=progress
                )
                return [told]
            case ResultArrived(result, seconds) if result.artifacts:
                self._held[result.id] = seconds
                return []
            case ResultArrived(result, seconds):
                return [_result(result, seconds, [])]
            case StepFinished():
                return list(self._released(event.conversation))
            case TextWithdrawn():
                return [SkillEvent(type="text_withdrawn")]
            case _:
                return []

    def _released(self, conversation: Conversation) -> Iterator[SkillEvent]:
        for message in conversation.messages:
            if isinstance(message, SkillMessage) and message.result.id in self._held:
                seconds = self._held.pop(message.result.id)
                yield _result(message.result, seconds, made_by(message))


def made_by(message: SkillMessage) -> list[Made]:
    """What a call made, with its handles."""
    images, masks = iter(message.images), iter(message.masks)
    made = []
    for artifact in message.result.artifacts:
        if artifact.image:
            url = artifact_url(artifact.image.sha256)
            made.append(Made(handle=next(images), label=artifact.label, url=url))
        elif artifact.mask:
            made.append(Made(handle=next(masks), label=artifact.label, mask=artifact.mask))
    return made


def artifact_url(sha256: str) -> str:
    """Where the owner gets an image."""
    return f"/v1/artifacts/{sha256}"


def usage_of(steps: Sequence[Step]) -> CompletionUsage:
    """The tokens of all replies of a turn."""
    prompt = sum(step.usage.prompt_tokens for step in steps)
    completion = sum(step.usage.completion_tokens for step in steps)
    cached = sum(step.usage.cached_tokens for step in steps)
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptDetails(cached_tokens=cached),
    )


def _use(use: SkillUse) -> SkillEvent:
    return SkillEvent(type="skill_use", id=use.id, name=use.name, arguments=use.arguments)


def _result(result: SkillResult, seconds: float, made: list[Made]) -> SkillEvent:
    return SkillEvent(
        type="skill_result",
        id=result.id,
        name=result.name,
        text=result.text,
        data=result.data,
        artifacts=made,
        error=result.error,
        seconds=seconds,
    )
