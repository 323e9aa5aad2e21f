"""Turns as a gateway keeps them, for the tests of the store and of what reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llava_plus.agent.store.store import ConversationStore
from llava_plus.agent.store.values import KeptTurn, TurnState, restored
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.skills import Artifact, ImageStore, Mask, SkillResult, SkillSpec, SkillUse
from llava_plus.skills.calls import SkillProblem

from ..serving import png

__all__ = ["MASK", "PAINT", "Talk", "painted"]

PAINT = SkillSpec(
    name="paint",
    description="Paint.",
    parameters={"type": "object", "properties": {"to": {}, "as": {}}},
    examples=("Paint it.",),
)
MASK = Mask(size=(4, 4), counts="0`0")


def painted(asked: Conversation, images: ImageStore, answer: str) -> Conversation:
    """One call that makes an image and a mask, its result, and an answer."""
    made = (Artifact(image=images.add(png("red")), label="red"), Artifact(mask=MASK))
    number = len(asked.messages)
    use = SkillUse(id=f"call_{number}", name="paint", arguments={"to": "rot ☂", "as": [1, None]})
    replied = asked.reply(AssistantMessage(thoughts="Paint.", skill_uses=(use,)))
    result = SkillResult(
        id=use.id, name="paint", text="Painted.", data={"zone": 1, "area": 0.5}, artifacts=made
    )
    return replied.add_result(result).reply(AssistantMessage(text=answer))


@dataclass
class Talk:
    """Somebody who talks with a store as a gateway would."""

    store: ConversationStore
    owner: str = "ann"
    images: ImageStore = field(default_factory=ImageStore)
    id: str = ""

    async def open(self, **options: Any) -> Talk:
        self.id = (await self.store.create(self.owner, (PAINT,), **options)).id
        return self

    async def begin(
        self, text: str, pictures: Sequence[bytes] = (), *, parent: str | None = None
    ) -> tuple[KeptTurn, Conversation, Conversation]:
        """The turn, and the conversation before it and with its request."""
        path = await self.store.path(parent, self.owner) if parent else []
        before = restored(path, (PAINT,))
        asked = before.ask(text, [self.images.add(picture) for picture in pictures])
        turn = await self.store.begin(
            self.id, self.owner, parent=parent, before=before, asked=asked, images=self.images
        )
        return turn, before, asked

    async def finish(
        self,
        turn: KeptTurn,
        before: Conversation,
        after: Conversation,
        *,
        state: TurnState = TurnState.FINISHED,
        error: SkillProblem | None = None,
    ) -> KeptTurn:
        return await self.store.finish(
            turn.id,
            self.owner,
            state=state,
            before=before,
            after=after,
            images=self.images,
            seconds=1.5,
            steps=[{"tokens": 7}],
            error=error,
        )

    async def say(
        self, text: str, answer: str, pictures: Sequence[bytes] = (), *, parent: str | None = None
    ) -> KeptTurn:
        """A request and its answer, without calls."""
        turn, before, asked = await self.begin(text, pictures, parent=parent)
        return await self.finish(turn, before, asked.reply(AssistantMessage(text=answer)))

    async def paint(
        self, text: str, answer: str, pictures: Sequence[bytes] = (), *, parent: str | None = None
    ) -> KeptTurn:
        """A request, a call that makes an image and a mask, and an answer."""
        turn, before, asked = await self.begin(text, pictures, parent=parent)
        return await self.finish(turn, before, painted(asked, self.images, answer))
