"""A record that is being put together: it numbers calls, images and masks, and notes repairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...model.conversation import (
    AssistantMessage,
    Marks,
    Message,
    SkillMessage,
    UserMessage,
    made_text,
)
from ...model.record import ERROR, Record, handles_made
from ...skills.calls import SkillProblem, SkillResult, SkillSpec, SkillUse
from ...skills.geometry import Mask
from .imported import Imported, Reason, Refusal, Repair

__all__ = ["Draft", "NamedCall"]

NamedCall = tuple[str, Mapping[str, Any]]
"""The name of a skill, and the arguments of a call."""


class Draft:
    """Grows message by message, as a conversation does.

    Images get their handles in the order in which they are named, `None` standing for one that
    is not at hand. Raises `Refusal` for an order that no conversation has.
    """

    def __init__(self, id: str, source: str = "") -> None:
        self.id = id
        self.source = source
        self.messages: list[Message] = []
        self.images: dict[str, str] = {}
        self.masks: dict[str, Mask] = {}
        self.pending: list[SkillUse] = []
        self._repairs: list[Repair] = []
        self._left_out: dict[str, None] = {}
        self._images_named = self._masks_named = self._calls = 0

    @property
    def marks(self) -> Marks | None:
        """The marks of the newest request that has some."""
        asked = (m for m in reversed(self.messages) if isinstance(m, UserMessage))
        return next((message.marks for message in asked if message.marks), None)

    @property
    def first_image(self) -> str | None:
        """The handle of the first image."""
        return "img_1" if self._images_named else None

    @property
    def called(self) -> list[str]:
        """The names of the skills that are called, each once."""
        replies = (message for message in self.messages if isinstance(message, AssistantMessage))
        return list(dict.fromkeys(use.name for reply in replies for use in reply.skill_uses))

    def newest_image(self, coming: int = 0) -> str | None:
        """The handle of the newest image, once `coming` more are there."""
        count = self._images_named + coming
        return f"img_{count}" if count else None

    def repaired(self, *repairs: Repair) -> None:
        """Note what was changed."""
        self._repairs += repairs

    def leave_out(self, names: Iterable[str]) -> None:
        """Note fields that a record has no place for."""
        self._left_out |= dict.fromkeys(names)

    def ask(self, text: str, files: Sequence[str | None] = (), marks: Marks | None = None) -> None:
        """Add a request with its images."""
        self._check_answered()
        if not text and not files:
            raise Refusal(Reason.BAD_TURN, "a request is empty")
        handles = tuple(self._name_image(file) for file in files)
        painted = [int(mask.removeprefix("mask_")) for mask in marks.masks] if marks else []
        self._masks_named = max([self._masks_named, *painted])
        self.messages.append(UserMessage(text=text, images=handles, marks=marks))

    def reply(self, text: str, thoughts: str = "", calls: Sequence[NamedCall] = ()) -> None:
        """Add a reply; its calls are numbered, and wait for their results."""
        uses = [
            SkillUse(id=self.next_id(), name=name, arguments=dict(arguments))
            for name, arguments in calls
        ]
        self.reply_with(uses, text, thoughts)

    def reply_with(self, uses: Sequence[SkillUse], text: str, thoughts: str = "") -> None:
        """Add a reply whose calls have their ids."""
        self._check_answered()
        if not self.messages:
            self.repaired(Repair.LEADING_REPLY_LEFT_OUT)
            return
        if not text and not uses and not thoughts:
            raise Refusal(Reason.BAD_TURN, "a reply is empty")
        message = AssistantMessage(text=text, thoughts=thoughts, skill_uses=tuple(uses))
        self.messages.append(message)
        self.pending = list(uses)

    def next_id(self) -> str:
        """The id of the next call: `call_1`, `call_2`, ..."""
        self._calls += 1
        return f"call_{self._calls}"

    def result(
        self,
        use: SkillUse,
        text: str,
        *,
        data: Mapping[str, Any] | None = None,
        images: Sequence[str | None] = (),
        masks: Sequence[str] = (),
    ) -> None:
        """Add the finding of a call; `images` are files of those made, `masks` their labels."""
        handles = [self._name_image(file) for file in images]
        outlines = [self._name_mask() for _ in masks]
        made = [*((handle, "") for handle in handles), *zip(outlines, masks, strict=True)]
        told = SkillResult(id=use.id, name=use.name, text=made_text(text, made), data=data or {})
        self._answer(use, SkillMessage(result=told, images=tuple(handles), masks=tuple(outlines)))

    def result_as_read(self, use: SkillUse, text: str, data: Mapping[str, Any]) -> None:
        """Add a finding at whose end the handles of what was made stand already."""
        images, masks = handles_made(text, self._images_named, self._masks_named)
        self._images_named += len(images)
        self._masks_named += len(masks)
        told = SkillResult(id=use.id, name=use.name, text=text, data=dict(data))
        self._answer(use, SkillMessage(result=told, images=tuple(images), masks=tuple(masks)))

    def error(self, use: SkillUse, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Add that a call failed."""
        problem = SkillProblem(kind=ERROR, message=message)
        told = SkillResult(id=use.id, name=use.name, error=problem, data=dict(data or {}))
        self._answer(use, SkillMessage(result=told))

    def rename_calls(self, ids: Sequence[str]) -> None:
        """Give the calls other ids, in their order. Raises `ValueError` for another number."""
        names = {f"call_{n}": id for n, id in enumerate(ids, 1)}
        if len(names) != self._calls:
            raise ValueError(f"{self._calls} calls have {len(names)} ids")
        self.messages = [_renamed(message, names) for message in self.messages]

    def finished(self, skills: Sequence[SkillSpec] = ()) -> Imported:
        """The record. Raises `Refusal` when there is no reply in it that could be learned."""
        while self.messages and isinstance(self.messages[-1], UserMessage):
            unanswered = self.messages.pop()
            assert isinstance(unanswered, UserMessage)
            for handle in unanswered.images:
                self.images.pop(handle, None)
            self.repaired(Repair.UNANSWERED_LEFT_OUT)
        if not self.messages:
            raise Refusal(Reason.NO_REPLY, "no request has a reply")
        record = Record(
            id=self.id,
            source=self.source,
            skills=tuple(skills),
            messages=tuple(self.messages),
            images=self.images,
            masks=self.masks,
        )
        return Imported(record, tuple(self._repairs), tuple(self._left_out))

    def _answer(self, use: SkillUse, message: SkillMessage) -> None:
        if use not in self.pending:
            raise Refusal(Reason.BAD_TURN, f"a result of {use.name!r} follows no call of it")
        self.pending.remove(use)
        self.messages.append(message)

    def _check_answered(self) -> None:
        if self.pending:
            names = ", ".join(repr(use.name) for use in self.pending)
            raise Refusal(Reason.MISSING_RESULT, f"no result follows the call of {names}")

    def _name_image(self, file: str | None) -> str:
        self._images_named += 1
        handle = f"img_{self._images_named}"
        if file is not None:
            self.images[handle] = file
        return handle

    def _name_mask(self) -> str:
        self._masks_named += 1
        return f"mask_{self._masks_named}"


def _renamed(message: Message, names: Mapping[str, str]) -> Message:
    if isinstance(message, AssistantMessage):
        uses = tuple(use.model_copy(update={"id": names[use.id]}) for use in message.skill_uses)
        return message.model_copy(update={"skill_uses": uses})
    if isinstance(message, SkillMessage):
        result = message.result.model_copy(update={"id": names[message.result.id]})
        return message.model_copy(update={"result": result})
    return message
