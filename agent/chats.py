"""Conversations that are kept: every turn is written down when it begins and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from ..model.conversation import AssistantMessage, Conversation, Message, UserMessage
from ..model.lmm import LMM
from ..model.sampling import sampled
from ..skills.calls import SkillResult, SkillSpec
from ..skills.errors import BadConfiguration, BadInput, UnknownSkill
from ..skills.geometry import Corners, Mask, Position
from ..skills.images import ImageRef, ImageStore
from .dispatcher import Dispatcher
from .keeping import ChatEvent, ChatEvents, Place, TurnBegan, TurnKeeper, TurnKept, TurnOptions
from .loop import Agent
from .observing.metrics import Metrics
from .store.store import ConversationStore
from .store.values import KeptConversation, KeptTurn, TurnState, restored

__all__ = ["Asked", "ChatEvent", "ChatEvents", "Chats", "TurnBegan", "TurnKept", "TurnOptions"]

_RECENT_BYTES = 256 * 1024 * 1024
"""Of images, with their pixels, that stay in memory between turns."""

_DEFAULT = TurnOptions()

Forget = Callable[[str, Sequence[ImageRef]], Awaitable[None]]
"""Is told whose images, and which, are about to be deleted."""

_Prepared = tuple[Place, Conversation]
"""Where a turn stands, and the conversation with its request."""


@dataclass(frozen=True)
class Asked:
    """A request as a person makes it; marks are in the newest image, as fractions of it."""

    text: str
    images: tuple[bytes, ...] = ()
    boxes: tuple[Corners, ...] = ()
    points: tuple[Position, ...] = ()
    masks: tuple[Mask, ...] = ()


class Chats:
    """Takes turns in kept conversations, many at once.

    `lmms` by name, the first being the default. Every method that takes an `owner` raises
    `NotKept` for what is not that owner's. Errors before a turn has begun are raised; what goes
    wrong later is told by `TurnFinished` and `TurnKept`. Closing a generator stops its turn.
    """

    def __init__(
        self,
        store: ConversationStore,
        lmms: Mapping[str, LMM],
        dispatcher: Dispatcher,
        skills: Sequence[SkillSpec],
        *,
        max_steps: int = 6,
        turn_seconds: float = 120.0,
        metrics: Metrics | None = None,
    ) -> None:
        if not lmms:
            raise BadConfiguration("a chat needs at least one LMM")
        self.store = store
        self.lmms = dict(lmms)
        self.dispatcher = dispatcher
        self.skills = tuple(skills)
        self.max_steps = max_steps
        self.turn_seconds = turn_seconds
        self._recent = ImageStore(_RECENT_BYTES)
        self._open: list[tuple[str, ImageStore]] = []
        self._keeper = TurnKeeper(store, self._recent, metrics)
        self._forgetting: list[Forget] = []

    # --- the ways in which a turn begins

    def ask(
        self,
        owner: str,
        asked: Asked,
        *,
        conversation: str | None = None,
        parent: str | None = None,
        options: TurnOptions = _DEFAULT,
    ) -> ChatEvents:
        """A request in a new conversation, at the end of one, or behind an earlier turn of it."""
        return self._turn(lambda: self._asked(owner, asked, conversation, parent, options))

    def retry(self, owner: str, turn: str, *, options: TurnOptions = _DEFAULT) -> ChatEvents:
        """The request of a turn once more, as another branch beside it."""
        return self._turn(lambda: self._again(owner, turn, None, options))

    def edit(
        self, owner: str, turn: str, text: str, *, options: TurnOptions = _DEFAULT
    ) -> ChatEvents:
        """The request of a turn in other words, as another branch beside it."""
        return self._turn(lambda: self._again(owner, turn, text, options))

    def bring(
        self,
        owner: str,
        conversation: str,
        results: Sequence[SkillResult],
        *,
        parent: str | None = None,
        options: TurnOptions = _DEFAULT,
    ) -> ChatEvents:
        """Go on with what the client's own tools brought.

        Raises `BadInput` unless these are the results of exactly the calls that were handed back.
        """
        return self._turn(lambda: self._brought(owner, conversation, results, parent, options))

    def go_on(
        self,
        owner: str,
        value: Conversation,
        images: ImageStore,
        *,
        options: TurnOptions = _DEFAULT,
    ) -> ChatEvents:
        """Answer a whole history that a client sent; it is kept as a conversation of its own."""
        return self._turn(lambda: self._whole(owner, value, images, options))

    async def stop(self, owner: str, turn: str) -> bool:
        """End a turn that runs in this process; false when it does not."""
        await self.store.turn(turn, owner)
        return self._keeper.stop(turn)

    async def image(self, owner: str, sha256: str) -> tuple[ImageRef, bytes]:
        """An image of one of the owner's conversations, or of a turn that still runs."""
        for whose, images in self._open:
            if whose == owner and (ref := images.get(sha256)):
                return ref, images.data(ref)
        return await self.store.artifact(sha256, owner)

    async def delete(self, owner: str, conversation: str) -> None:
        """Delete a conversation for good: turns, images, and what others hold of them."""
        if self._forgetting:
            turns = await self.store.turns(conversation, owner)
            refs = [ref for turn in turns for ref in turn.images.values()]
            for forget in self._forgetting:
                await forget(owner, refs)
        await self.store.delete(conversation, owner)

    def before_deleting(self, forget: Forget) -> None:
        """Have whoever holds copies of images told of them while they can still be read."""
        self._forgetting.append(forget)

    async def aclose(self) -> None:
        """Stop every turn that runs, and write down how far each came."""
        await self._keeper.aclose()

    async def _turn(self, prepare: Callable[[], Awaitable[_Prepared]]) -> ChatEvents:
        place, value = await prepare()
        options = place.options
        agent = Agent(
            sampled(self.lmms[place.lmm], options.sampling),
            self.dispatcher,
            max_steps=options.max_steps or self.max_steps,
            turn_seconds=options.turn_seconds or self.turn_seconds,
        )
        opened = (place.owner, place.images)
        self._open.append(opened)
        try:
            async with aclosing(self._keeper.take(agent, place, value)) as events:
                async for event in events:
                    yield event
        finally:
            self._open.remove(opened)

    # --- what is asked

    async def _asked(
        self,
        owner: str,
        asked: Asked,
        conversation: str | None,
        parent: str | None,
        options: TurnOptions,
    ) -> _Prepared:
        place = await self._place(owner, conversation, parent, options)
        if waiting := ", ".join(sorted(_waiting(place.before))):
            raise BadInput(f"the results of these calls are waited for before a request: {waiting}")
        value = place.before.ask(asked.text, await _checked(place.images, asked.images))
        if asked.boxes or asked.points or asked.masks:
            value = value.mark(boxes=asked.boxes, points=asked.points, masks=asked.masks)
        return place, value

    async def _again(
        self, owner: str, turn: str, text: str | None, options: TurnOptions
    ) -> _Prepared:
        if text is not None and not text.strip():
            raise BadInput("the request is empty: say what should be done or answered")
        old = await self.store.turn(turn, owner)
        if old.state is TurnState.RUNNING:
            raise BadInput(f"turn {turn} still runs: stop it first")
        kept = await self.store.conversation(old.conversation, owner)
        path = await self._path(owner, old.parent)
        before = restored(path, self._offered(kept.skills, options))
        value = restored([*path, _request_of(old)], before.skills)
        if text is not None:
            said = value.messages[-1].model_copy(update={"text": text})
            value = value.model_copy(update={"messages": (*value.messages[:-1], said)})
        images = await self._images(owner, value)
        lmm = self._lmm(options)
        return Place(owner, kept, old.parent, before, images, lmm, options), value

    async def _brought(
        self,
        owner: str,
        conversation: str,
        results: Sequence[SkillResult],
        parent: str | None,
        options: TurnOptions,
    ) -> _Prepared:
        place = await self._place(owner, conversation, parent, options)
        waiting = _waiting(place.before)
        if not waiting or {result.id for result in results} != waiting:
            ids = ", ".join(sorted(waiting)) or "none"
            raise BadInput(f"the results of these calls are waited for: {ids}")
        value = place.before
        for result in results:
            value = value.add_result(result)
        return place, value

    async def _whole(
        self, owner: str, value: Conversation, images: ImageStore, options: TurnOptions
    ) -> _Prepared:
        place = await self._place(owner, None, None, options)
        for ref in value.images.values():
            place.images.borrow(ref, images)
        return place, value.model_copy(update={"skills": place.before.skills})

    # --- where a turn stands

    async def _place(
        self, owner: str, conversation: str | None, parent: str | None, options: TurnOptions
    ) -> Place:
        lmm = self._lmm(options)
        if conversation is None:
            before = Conversation(skills=self._offered(self.skills, options))
            return Place(owner, None, None, before, ImageStore(), lmm, options)
        kept = await self.store.conversation(conversation, owner)
        path = await self._path(owner, parent) if parent else await self._answered(owner, kept)
        if any(turn.conversation != kept.id for turn in path):
            raise BadInput(f"turn {parent} is of another conversation than {kept.id}")
        before = restored(path, self._offered(kept.skills, options))
        images = await self._images(owner, before)
        last = path[-1].id if path else None
        return Place(owner, kept, last, before, images, lmm, options)

    async def _answered(self, owner: str, kept: KeptConversation) -> list[KeptTurn]:
        """The turns of a conversation without those at its end that have no answer."""
        path = await self.store.path(kept.head, owner) if kept.head else []
        while path and path[-1].state is not TurnState.FINISHED:
            path.pop()
        return path

    async def _path(self, owner: str, last: str | None) -> list[KeptTurn]:
        """The turns up to one that has an answer. Raises `BadInput` when it has none."""
        path = await self.store.path(last, owner) if last else []
        if path and path[-1].state is not TurnState.FINISHED:
            raise BadInput(f"turn {last} has no answer ({path[-1].state}); take it again first")
        return path

    def _lmm(self, options: TurnOptions) -> str:
        name = options.lmm or next(iter(self.lmms))
        if name not in self.lmms:
            raise BadInput(f"there is no LMM {name!r}; there is: {', '.join(self.lmms)}")
        return name

    def _offered(self, skills: Sequence[SkillSpec], options: TurnOptions) -> tuple[SkillSpec, ...]:
        """The skills of a turn, the client's own last; hers win over ours of the same name.

        Of those that a conversation began with, the ones that are still there, as they are now.
        """
        here = {spec.name: spec for spec in self.skills}
        offered = {spec.name: here[spec.name] for spec in skills if spec.name in here}
        if options.skills is not None:
            known = {**here, **offered}
            for name in options.skills:
                if name not in known:
                    names = ", ".join(known) or "none"
                    raise UnknownSkill(f"there is no skill {name!r}; there is: {names}")
            offered = {name: known[name] for name in options.skills}
        own = {spec.name: spec for spec in options.client_tools}
        return (*(spec for name, spec in offered.items() if name not in own), *own.values())

    async def _images(self, owner: str, value: Conversation) -> ImageStore:
        """The images of a conversation, those of late from memory."""
        images = ImageStore()
        missing = [ref for ref in value.images.values() if not images.borrow(ref, self._recent)]
        if missing:
            await self.store.load_images(value, owner, images)
        return images


async def _checked(images: ImageStore, given: Sequence[bytes]) -> list[ImageRef]:
    """Check images, which takes a while, in threads. Raises `BadInput`."""
    return [
        await asyncio.to_thread(images.add, data, name=f"image {number}")
        for number, data in enumerate(given, 1)
    ]


def _waiting(value: Conversation) -> set[str]:
    """The ids of calls that have no result yet."""
    called: set[str] = set()
    for message in value.messages:
        if isinstance(message, AssistantMessage):
            called = {use.id for use in message.skill_uses}
        elif not isinstance(message, UserMessage):
            called.discard(message.result.id)
    return called


def _request_of(turn: KeptTurn) -> KeptTurn:
    """A turn as it was before any reply. Raises `BadInput` when it began with no request."""
    messages = turn.messages
    places = [n for n, message in enumerate(messages) if isinstance(message, UserMessage)]
    if not places or not isinstance(messages[0], UserMessage):
        raise BadInput(f"turn {turn.id} went on with results; there is no request to repeat")
    asked: tuple[Message, ...] = messages[: places[-1] + 1]
    named = {
        handle
        for message in asked
        if not isinstance(message, AssistantMessage)
        for handle in (*message.images, *_masks_of(message))
    }
    return replace(
        turn,
        messages=asked,
        images={handle: ref for handle, ref in turn.images.items() if handle in named},
        masks={handle: mask for handle, mask in turn.masks.items() if handle in named},
    )


def _masks_of(message: Message) -> tuple[str, ...]:
    if isinstance(message, UserMessage):
        return message.marks.masks if message.marks else ()
    return () if isinstance(message, AssistantMessage) else message.masks
