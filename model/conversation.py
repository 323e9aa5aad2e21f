"""The conversation: one value that serving appends to and training learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..skills.calls import SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadInput
from ..skills.geometry import Mask
from ..skills.images import ImageRef

__all__ = [
    "AssistantMessage",
    "Conversation",
    "Message",
    "SkillMessage",
    "UserMessage",
]


class UserMessage(BaseModel):
    """What a person said, with the handles of the images that came along."""

    model_config = ConfigDict(frozen=True)

    role: Literal["user"] = "user"
    text: str
    images: tuple[str, ...] = ()


class AssistantMessage(BaseModel):
    """What the LMM said: skill calls, or an answer (some models write both)."""

    model_config = ConfigDict(frozen=True)

    role: Literal["assistant"] = "assistant"
    text: str = ""
    skill_uses: tuple[SkillUse, ...] = ()


class SkillMessage(BaseModel):
    """What one skill call brought, with the handles that its images and masks were given."""

    model_config = ConfigDict(frozen=True)

    role: Literal["tool"] = "tool"
    result: SkillResult
    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What the LMM reads: the problem, or the finding and the handles of what was made."""
        if self.result.error:
            return f"Error: {self.result.error.message}"
        made = ", ".join(self._announced())
        return f"{self.result.text}\nMade {made}." if made else self.result.text

    def _announced(self) -> Iterable[str]:
        images, masks = iter(self.images), iter(self.masks)
        for artifact in self.result.artifacts:
            handle = next(images) if artifact.image else next(masks)
            yield f"{handle} ({artifact.label})" if artifact.label else handle


Message = Annotated[UserMessage | AssistantMessage | SkillMessage, Field(discriminator="role")]


class Conversation(BaseModel):
    """Skills on offer, messages, and what their handles stand for. Never changed, only grown.

    `images` maps handles (`img_1`) to content hashes, `masks` handles (`mask_1`) to masks; a
    finished conversation is a trajectory that can be trained on.
    """

    model_config = ConfigDict(frozen=True)

    skills: tuple[SkillSpec, ...] = ()
    messages: tuple[Message, ...] = ()
    images: Mapping[str, ImageRef] = {}
    masks: Mapping[str, Mask] = {}

    def ask(self, text: str, images: Sequence[ImageRef] = ()) -> Conversation:
        """Add a request; its images get the next handles. Raises `BadInput` when it is empty."""
        if not text.strip():
            raise BadInput("the request is empty: say what should be done or answered")
        first = self._next_image()
        handles = [f"img_{first + index}" for index in range(len(images))]
        message = UserMessage(text=text, images=tuple(handles))
        known = {**self.images, **dict(zip(handles, images, strict=True))}
        return self.model_copy(update={"messages": (*self.messages, message), "images": known})

    def ask_about(self, text: str, handles: Sequence[str]) -> Conversation:
        """Add a request about images that are named but not at hand, as planning allows.

        Raises `BadInput` when the request is empty.
        """
        asked = self.ask(text)
        named = UserMessage(text=text, images=tuple(handles))
        return asked.model_copy(update={"messages": (*self.messages, named)})

    def reply(self, message: AssistantMessage) -> Conversation:
        """Add what the LMM said."""
        return self.model_copy(update={"messages": (*self.messages, message)})

    def add_result(self, result: SkillResult) -> Conversation:
        """Add what a call brought; the images and masks that it made get the next handles."""
        images, masks = dict(self.images), dict(self.masks)
        image_handles: list[str] = []
        mask_handles: list[str] = []
        first = self._next_image()
        for artifact in result.artifacts:
            if artifact.image:
                image_handles.append(f"img_{first + len(image_handles)}")
                images[image_handles[-1]] = artifact.image
            elif artifact.mask:
                mask_handles.append(f"mask_{len(masks) + 1}")
                masks[mask_handles[-1]] = artifact.mask
        message = SkillMessage(
            result=result, images=tuple(image_handles), masks=tuple(mask_handles)
        )
        update = {"messages": (*self.messages, message), "images": images, "masks": masks}
        return self.model_copy(update=update)

    def _next_image(self) -> int:
        """The number of the next image; an image that is only named has a number too."""
        spoken = (message for message in self.messages if not isinstance(message, AssistantMessage))
        return 1 + sum(len(message.images) for message in spoken)

    def has_image(self, place: int) -> bool:
        """Whether an image had been named when message number `place` was said, or by it."""
        spoken = (m for m in self.messages[: place + 1] if not isinstance(m, AssistantMessage))
        return any(message.images for message in spoken)

    @property
    def answer(self) -> str | None:
        """The text of the last message when that is a reply without calls, else None."""
        last = self.messages[-1] if self.messages else None
        return last.text if isinstance(last, AssistantMessage) and not last.skill_uses else None

    def tools(self) -> list[dict[str, Any]]:
        """The skills on offer in the OpenAI `tools` form."""
        return [spec.tool() for spec in self.skills]

    def chat_messages(self) -> list[dict[str, Any]]:
        """The messages in the OpenAI form, as chat templates, TRL and servers read them.

        An image is a part `{"type": "image", "image": handle}`, followed by its handle as
        text, so that every model can name it. Arguments are JSON text, as on the wire.
        """
        return [self._chat_message(message) for message in self.messages]

    def _chat_message(self, message: Message) -> dict[str, Any]:
        if isinstance(message, AssistantMessage):
            calls = {"tool_calls": [use.tool_call() for use in message.skill_uses]}
            return {
                "role": "assistant",
                "content": message.text,
                **(calls if message.skill_uses else {}),
            }
        if isinstance(message, SkillMessage):
            return _tool_message(message)
        parts: list[dict[str, str]] = []
        for handle in message.images:
            # A plan may be asked for before there is an image: its handle stands alone then.
            parts += [{"type": "image", "image": handle}] if handle in self.images else []
            parts += [{"type": "text", "text": f"{handle}\n"}]
        return {"role": "user", "content": [*parts, {"type": "text", "text": message.text}]}


def _tool_message(message: SkillMessage) -> dict[str, Any]:
    return {
        "role": "tool",
        "tool_call_id": message.result.id,
        "name": message.result.name,
        "content": message.text,
    }
