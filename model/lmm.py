"""What every LMM does: read a conversation, stream a reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from ..skills.calls import SkillUse
from ..skills.images import ImageStore
from .conversation import AssistantMessage, Conversation

__all__ = ["LMM", "Event", "Replied", "SkillUseDelta", "TextDelta", "Usage"]


@dataclass(frozen=True)
class TextDelta:
    """More text of an answer."""

    text: str


@dataclass(frozen=True)
class SkillUseDelta:
    """One whole skill call, as soon as it is known."""

    use: SkillUse


@dataclass(frozen=True)
class Usage:
    """What a reply cost, in tokens and seconds.

    `cached_tokens` of the `prompt_tokens` were known from before and not computed again. A reply
    is `cut_off` when it was as long as it might be before it had come to its end.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token_seconds: float = 0.0
    seconds: float = 0.0
    cut_off: bool = False


@dataclass(frozen=True)
class Replied:
    """The end of a reply: all of it, and what it cost."""

    message: AssistantMessage
    usage: Usage


Event = TextDelta | SkillUseDelta | Replied


class LMM(Protocol):
    """A large multimodal model that can be asked to go on with a conversation."""

    name: str

    def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream a reply to the last message; a `Replied` event closes it.

        `calls_allowed=False` asks for an answer in words (the last step of a turn). Raises
        `BadReply` when what the model said cannot be read, `WorkerUnavailable` when it cannot
        be reached. Closing the iterator stops the work.
        """
        ...

    async def aclose(self) -> None:
        """Give back what the model holds."""
        ...
