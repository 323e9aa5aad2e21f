"""The conversation: one value that serving appends to and training learns from."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..skills.calls import SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadInput
from ..skills.geometry import Box, Corners, Mask, Point, Position
from ..skills.images import ImageRef

__all__ = [
    "AssistantMessage",
    "Conversation",
    "Marks",
    "Message",
    "SkillMessage",
    "UserMessage",
    "chat_message",
    "made_text",
]

_MARKED = re.compile(r"Marked in (img_\d+): (.*)")


class Marks(BaseModel):
    """Places that a person pointed out in an image; `masks` are the handles of painted areas."""

    model_config = ConfigDict(frozen=True)

    image: str
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    masks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What the LMM reads, in the form in which it passes places on to skills."""
        boxes = [f"box {json.dumps(box)}" for box in self.boxes]
        points = [f"point {json.dumps(point)}" for point in self.points]
        return f"Marked in {self.image}: {', '.join([*boxes, *points, *self.masks])}"

    @classmethod
    def read(cls, line: str) -> Marks | None:
        """The marks of which `line` is the `text`, or None when it is no such line."""
        found = _MARKED.fullmatch(line)
        if not found:
            return None
        try:
            marks = cls(
                image=found[1],
                boxes=tuple(json.loads(box) for box in re.findall(r"box (\[[^]]*])", found[2])),
                points=tuple(json.loads(at) for at in re.findall(r"point (\[[^]]*])", found[2])),
                masks=tuple(re.findall(r"mask_\d+", found[2])),
            )
        except ValueError:
            return None
        return marks if marks.text == line else None


class UserMessage(BaseModel):
    """What a person said, with the handles of the images that came along, and marks in one."""

    model_config = ConfigDict(frozen=True)

    role: Literal["user"] = "user"
    text: str
    images: tuple[str, ...] = ()
    marks: Marks | None = None

    @property
    def words(self) -> str:
        """What the LMM reads beside the images."""
        return f"{self.text}\n{self.marks.text}" if self.marks else self.text


class AssistantMessage(BaseModel):
    """What the LMM said: skill calls, or an answer (some models write both).

    `thoughts` came before them, from models and in data that tell thoughts apart.
    """

    model_config = ConfigDict(frozen=True)

    role: Literal["assistant"] = "assistant"
    text: str = ""
    thoughts: str = ""
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
        return made_text(self.result.text, self._announced())

    def _announced(self) -> Iterable[tuple[str, str]]:
        images, masks = iter(self.images), iter(self.masks)
        for artifact in self.result.artifacts:
            yield next(images) if artifact.image else next(masks), artifact.label


def made_text(text: str, made: Iterable[tuple[str, str]]) -> str:
    """A finding, and behind it the handles of what was made, each with its label."""
    named = ", ".join(f"{handle} ({label})" if label else handle for handle, label in made)
    return f"{text}\nMade {named}." if named else text


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
        first = self._next_image()
        handles = [f"img_{first + index}" for index in range(len(images))]
        known = {**self.images, **dict(zip(handles, images, strict=True))}
        return self.ask_about(text, handles).model_copy(update={"images": known})

    def ask_about(self, text: str, handles: Sequence[str]) -> Conversation:
        """Add a request about images that are named but not at hand, as planning allows.

        Raises `BadInput` when the request is empty.
        """
        if not text.strip():
            raise BadInput("the request is empty: say what should be done or answered")
        message = UserMessage(text=text, images=tuple(handles))
        return self.model_copy(update={"messages": (*self.messages, message)})

    def mark(
        self,
        *,
        boxes: Sequence[Corners] = (),
        points: Sequence[Position] = (),
        masks: Sequence[Mask] = (),
    ) -> Conversation:
        """Add to the request just asked what the person marked in the newest image.

        Masks get the next handles. Raises `BadInput` when there is no request or no image.
        """
        asked = self.messages[-1] if self.messages else None
        images = [handle for message in self.messages for handle in _images_of(message)]
        if not isinstance(asked, UserMessage) or not images:
            raise BadInput("boxes, points and masks mark an image: give one with them")
        first = len(self.masks) + 1
        new = {f"mask_{first + index}": mask for index, mask in enumerate(masks)}
        marks = Marks(image=images[-1], boxes=tuple(boxes), points=tuple(points), masks=tuple(new))
        marked = asked.model_copy(update={"marks": marks})
        update = {"messages": (*self.messages[:-1], marked), "masks": {**self.masks, **new}}
        return self.model_copy(update=update)

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
        return 1 + sum(len(_images_of(message)) for message in self.messages)

    def has_image(self, place: int) -> bool:
        """Whether an image had been named when message number `place` was said, or by it."""
        return any(_images_of(message) for message in self.messages[: place + 1])

    @property
    def turn(self) -> tuple[Message, ...]:
        """The messages from the last request on; none where nothing was asked."""
        asked = [n for n, message in enumerate(self.messages) if isinstance(message, UserMessage)]
        return self.messages[asked[-1] :] if asked else ()

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
        return [chat_message(message, self.images) for message in self.messages]


def chat_message(message: Message, at_hand: Container[str]) -> dict[str, Any]:
    """One message in the OpenAI form; `at_hand` are the handles whose images can be shown."""
    if isinstance(message, AssistantMessage):
        calls = [use.tool_call() for use in message.skill_uses]
        return {
            "role": "assistant",
            # Where chat templates and servers look for it.
            **({"reasoning_content": message.thoughts} if message.thoughts else {}),
            "content": message.text,
            **({"tool_calls": calls} if calls else {}),
        }
    if isinstance(message, SkillMessage):
        return _tool_message(message)
    parts: list[dict[str, str]] = []
    for handle in message.images:
        # A plan may be asked for before there is an image: its handle stands alone then.
        parts += [{"type": "image", "image": handle}] if handle in at_hand else []
        parts += [{"type": "text", "text": f"{handle}\n"}]
    return {"role": "user", "content": [*parts, {"type": "text", "text": message.words}]}


def _images_of(message: Message) -> tuple[str, ...]:
    return () if isinstance(message, AssistantMessage) else message.images


def _tool_message(message: SkillMessage) -> dict[str, Any]:
    return {
        "role": "tool",
        "tool_call_id": message.result.id,
        "name": message.result.name,
        "content": message.text,
    }
