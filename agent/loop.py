"""One turn: the LMM replies, its calls run, their results go back to it, until it answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from ..model.conversation import AssistantMessage, Conversation
from ..model.lmm import LMM, Replied, TextDelta, Usage
from ..skills.calls import SkillResult, SkillUse
from ..skills.errors import (
    BadConfiguration,
    BadReply,
    BadSkillUse,
    DeadlineExceeded,
    LlavaPlusError,
    SkillError,
    WorkerUnavailable,
)
from ..skills.images import ImageStore
from ..skills.progress import Progress
from .call_scope import CallScope
from .checking import UseChecker, problem_of
from .dispatcher import Dispatcher, unavailable
from .together import together

__all__ = [
    "Agent",
    "CallProgressed",
    "CallsDecided",
    "Planned",
    "ResultArrived",
    "Step",
    "StepFinished",
    "TextDelta",
    "TextWithdrawn",
    "TurnEvent",
    "TurnFinished",
]


@dataclass(frozen=True)
class TextWithdrawn:
    """The text since the last step does not count: the reply broke off and is asked for again."""


@dataclass(frozen=True)
class CallsDecided:
    """The calls of one reply, all of which now begin; the conversation ends with that reply."""

    uses: tuple[SkillUse, ...]
    conversation: Conversation


@dataclass(frozen=True)
class CallProgressed:
    """How far a call has come, where its skill tells; one that is tried again starts anew."""

    use: SkillUse
    progress: Progress


@dataclass(frozen=True)
class ResultArrived:
    """What one call brought, as soon as it is there; other calls may still run.

    Where its worker failed, its error says so, and the turn ends.
    """

    result: SkillResult
    seconds: float


@dataclass(frozen=True)
class Step:
    """What one reply cost, and the seconds of each call in it, by the call's id."""

    usage: Usage
    skill_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StepFinished:
    """All results of one reply have joined the conversation, where their handles are known."""

    conversation: Conversation
    step: Step


@dataclass(frozen=True)
class TurnFinished:
    """The end of every turn, with an answer or with the `error` that kept it from one.

    The conversation is whole: after an error it ends before the reply that failed, so the turn
    can be taken again from there. `handed_back` are the calls of the last reply whose results
    only the caller can bring; the turn goes on when they have joined the conversation.
    """

    conversation: Conversation
    steps: tuple[Step, ...]
    error: LlavaPlusError | None = None
    handed_back: tuple[SkillUse, ...] = ()

    def raise_for_error(self) -> None:
        """Raise what kept the turn from its answer, if anything did."""
        if self.error:
            raise self.error


TurnEvent = (
    TextDelta
    | TextWithdrawn
    | CallsDecided
    | CallProgressed
    | ResultArrived
    | StepFinished
    | TurnFinished
)


@dataclass(frozen=True)
class Planned:
    """What the LMM would do first; none of it has been done."""

    conversation: Conversation
    message: AssistantMessage
    usage: Usage


class Agent:
    """Takes turns in conversations. It keeps nothing between them, so one serves many at once.

    `max_steps` bounds the replies of a turn, of which the last must be an answer, and
    `turn_seconds` the time from the request to the answer.
    """

    def __init__(
        self, lmm: LMM, dispatcher: Dispatcher, *, max_steps: int = 6, turn_seconds: float = 120.0
    ) -> None:
        if max_steps < 1 or turn_seconds <= 0:
            raise BadConfiguration("a turn needs at least one step and some time")
        self.lmm = lmm
        self.dispatcher = dispatcher
        self.max_steps = max_steps
        self.turn_seconds = turn_seconds

    async def turn(
        self,
        conversation: Conversation,
        store: ImageStore,
        *,
        handed_back: AbstractSet[str] = frozenset(),
    ) -> AsyncGenerator[TurnEvent, None]:
        """Answer the last request. The last event is `TurnFinished`, also when it failed.

        Calls of the skills `handed_back` are not run here: the turn ends with them. Closing the
        generator, or cancelling its reader, cancels the LMM and the calls in flight.
        """
        events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
        run = self.run(conversation, store, events.put_nowait, handed_back=handed_back)
        running = asyncio.create_task(run)
        running.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def run(
        self,
        conversation: Conversation,
        store: ImageStore,
        tell: Callable[[TurnEvent], None],
        *,
        handed_back: AbstractSet[str] = frozenset(),
    ) -> None:
        """As `turn`, for who would rather be told of the events; cancelling it is closing it."""
        await _Turn(self, conversation, store, tell, handed_back).run()

    async def plan(self, conversation: Conversation, store: ImageStore) -> Planned:
        """The LMM's first reply to the last request; no skill is run. Raises what a turn tells."""
        turn = _Turn(self, conversation, store, lambda _: None)
        replied = await turn.reply(calls_allowed=True)
        return Planned(conversation.reply(replied.message), replied.message, replied.usage)


class _Turn:
    """One turn while it goes on."""

    def __init__(
        self,
        agent: Agent,
        conversation: Conversation,
        store: ImageStore,
        emit: Callable[[TurnEvent], None],
        handed_back: AbstractSet[str] = frozenset(),
    ) -> None:
        self._agent = agent
        self._conversation = conversation
        self._store = store
        self._emit = emit
        self._callers = handed_back
        self._handed_back: tuple[SkillUse, ...] = ()
        self._deadline = time.monotonic() + agent.turn_seconds
        self._steps: list[Step] = []
        self._called: set[str] = set()

    async def run(self) -> None:
        """Take every step; the last event tells how it ended."""
        error = None
        try:
            while not await self._step(last=len(self._steps) == self._agent.max_steps - 1):
                pass
        except LlavaPlusError as raised:
            error = raised
        steps = tuple(self._steps)
        self._emit(TurnFinished(self._conversation, steps, error, self._handed_back))

    async def _step(self, *, last: bool) -> bool:
        """One reply with all that it calls; true when the turn ends with it."""
        replied = await self.reply(calls_allowed=not last)
        said = replied.message.skill_uses
        uses = tuple(use for use in said if use.name not in self._callers)
        self._handed_back = tuple(use for use in said if use.name in self._callers)
        seconds: dict[str, float] = {}
        grown = self._conversation.reply(replied.message)
        if uses:
            async with together() as group:
                # Tasks begin in the order in which they were made: calls go before telling of them.
                calls = [group.create_task(self._call(use, seconds)) for use in uses]
                self._emit(CallsDecided(uses, grown))
            for call in calls:
                grown = grown.add_result(call.result())
        self._conversation = grown
        self._steps.append(Step(replied.usage, seconds))
        self._emit(StepFinished(grown, self._steps[-1]))
        return not uses or bool(self._handed_back)

    # --- the LMM

    async def reply(self, *, calls_allowed: bool) -> Replied:
        """A reply that can be read; one that cannot is asked for once more, then its text stands.

        Raises `BadReply` when there is not even a text, `WorkerUnavailable` and its kinds.
        """
        for attempt in (1, 2):
            began = time.monotonic()
            said: list[str] = []
            try:
                return await self._ask(said, calls_allowed=calls_allowed)
            except BadReply:
                text = "".join(said).strip()
                if attempt == 2 and text:
                    usage = Usage(seconds=time.monotonic() - began)
                    return Replied(AssistantMessage(text=text), usage)
                if attempt == 2:
                    raise
                self._emit(TextWithdrawn())
        raise AssertionError("the second attempt returns or raises")

    async def _ask(self, said: list[str], *, calls_allowed: bool) -> Replied:
        conversation = self._conversation
        events = self._agent.lmm.reply(
            conversation, self._store, calls_allowed=calls_allowed and bool(conversation.skills)
        )
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                replied = await self._listen(events, said)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the LMM {self._agent.lmm.name} did not finish its reply within the "
                f"{self._agent.turn_seconds:g} s of the turn"
            ) from None
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()
        if replied.message.skill_uses and not calls_allowed:
            raise BadReply("the model called a skill where it had to answer")
        if not replied.message.skill_uses and not replied.message.text.strip():
            raise BadReply("the model neither called a skill nor said anything")
        return Replied(_with_own_ids(replied.message, conversation), replied.usage)

    async def _listen(self, events: AsyncIterator[object], said: list[str]) -> Replied:
        async for event in events:
            if isinstance(event, TextDelta):
                said.append(event.text)
                self._emit(event)
            elif isinstance(event, Replied):
                return event
        raise BadReply("the model's reply has no end")

    # --- the skills

    @cached_property
    def _checker(self) -> UseChecker:
        return UseChecker(self._conversation.skills)

    async def _call(self, use: SkillUse, seconds: dict[str, float]) -> SkillResult:
        began = time.monotonic()
        try:
            self._checker.check(use)
            self._check_new(use)
            result = await self._agent.dispatcher.dispatch(
                use,
                CallScope(
                    images=self._conversation.images,
                    masks=self._conversation.masks,
                    store=self._store,
                    deadline=self._deadline,
                    watch=lambda progress: self._emit(CallProgressed(use, progress)),
                ),
            )
        except SkillError as error:
            result = SkillResult(id=use.id, name=use.name, error=problem_of(error))
        except WorkerUnavailable as error:
            problem = problem_of(unavailable(use.name, error))
            result = SkillResult(id=use.id, name=use.name, error=problem)
            self._emit(ResultArrived(result, time.monotonic() - began))
            error.told = problem.message
            raise
        seconds[use.id] = time.monotonic() - began
        self._emit(ResultArrived(result, seconds[use.id]))
        return result

    def _check_new(self, use: SkillUse) -> None:
        """Raises `BadSkillUse` for a call that this turn has made before."""
        key = json.dumps([use.name, use.arguments], sort_keys=True)
        if key in self._called:
            raise BadSkillUse(
                f"{use.name} was already called with these arguments; its result stands above. "
                "Answer from it, or call with other arguments."
            )
        self._called.add(key)


def _with_own_ids(message: AssistantMessage, conversation: Conversation) -> AssistantMessage:
    """Give calls whose id is taken another one: some servers count anew in every reply."""
    before = (m for m in conversation.messages if isinstance(m, AssistantMessage))
    taken = {use.id for earlier in before for use in earlier.skill_uses}
    uses = []
    for use in message.skill_uses:
        number = len(taken) + 1
        fresh = use.id or f"call_{number}"
        while fresh in taken:
            fresh = f"call_{number}"
            number += 1
        taken.add(fresh)
        uses.append(use if fresh == use.id else use.model_copy(update={"id": fresh}))
    return message.model_copy(update={"skill_uses": tuple(uses)})
