"""A turn while it is taken: written down when it begins and when it ends, whoever is left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from ..model.conversation import Conversation
from ..model.sampling import Sampling
from ..skills.calls import SkillProblem, SkillSpec
from ..skills.errors import LlavaPlusError
from ..skills.images import ImageStore
from .loop import (
    Agent,
    CallsDecided,
    ResultArrived,
    Step,
    StepFinished,
    TurnEvent,
    TurnFinished,
)
from .observing.metrics import Metrics
from .observing.tracing import TurnIds
from .observing.watched import watched_turn
from .store.rows import first_request, new_id
from .store.store import LEASE_SECONDS, ConversationStore
from .store.values import KeptConversation, KeptTurn, StoreUnavailable, TurnState

__all__ = ["ChatEvent", "ChatEvents", "Place", "TurnBegan", "TurnKeeper", "TurnKept", "TurnOptions"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_STOP_SECONDS = 5.0
_PATIENCE = 15.0
"""Seconds for which a turn that is over waits for a store that cannot be used."""


@dataclass(frozen=True)
class TurnOptions:
    """How one turn is taken; what is None is as the operator set it.

    `client_tools` are offered beside the skills; the turn ends where the LMM calls one of them.
    Every reply of the LMM is made with `sampling`. Without `keep` nothing is written down.
    """

    lmm: str | None = None
    skills: tuple[str, ...] | None = None
    client_tools: tuple[SkillSpec, ...] = ()
    max_steps: int | None = None
    turn_seconds: float | None = None
    keep: bool = True
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class TurnBegan:
    """The request has been written down."""

    turn: KeptTurn
    conversation: KeptConversation


@dataclass(frozen=True)
class TurnKept:
    """The last event: all of the turn has been written down, with its error if it has one."""

    turn: KeptTurn
    conversation: Conversation


ChatEvent = TurnBegan | TurnEvent | TurnKept
ChatEvents = AsyncGenerator[ChatEvent, None]


@dataclass(frozen=True)
class Place:
    """Whose turn it is, and the conversation as it stands before the request."""

    owner: str
    kept: KeptConversation | None
    parent: str | None
    before: Conversation
    images: ImageStore
    lmm: str
    options: TurnOptions


class TurnKeeper:
    """Takes turns, many at once, and knows those that run."""

    def __init__(
        self, store: ConversationStore, recent: ImageStore, metrics: Metrics | None = None
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._recent = recent
        self._running: dict[str, asyncio.Task[None]] = {}
        self._settling: set[asyncio.Task[Any]] = set()
        self._renewing: asyncio.Task[None] | None = None

    def stop(self, turn: str) -> bool:
        """End a turn; false when it does not run here."""
        running = self._running.get(turn)
        return running.cancel() if running else False

    async def take(self, agent: Agent, place: Place, value: Conversation) -> ChatEvents:
        """Let the agent take the turn that `value` asks for; see `Chats` for what is told.

        The LMM reads the request while that is written down; nobody hears of it before it is.
        """
        ids = _ids(place)
        events: asyncio.Queue[TurnEvent | None] = asyncio.Queue()
        running = self._run(agent, place, ids, value, events.put_nowait)
        taking = asyncio.create_task(running)
        taking.add_done_callback(lambda _: events.put_nowait(None))
        # Begun behind it, so that the LMM is asked first: to write keeps this thread waiting too.
        beginning = asyncio.create_task(self._begin(place, value, ids))
        try:
            conversation, turn = await asyncio.shield(beginning)
        except BaseException:
            await self._surely(self._call_off(place, value, beginning, taking))
            raise
        progress = _Progress(value)
        async with self._registered(turn.id, taking):
            try:
                yield TurnBegan(turn, conversation)
                while (event := await events.get()) is not None:
                    progress.note(event)
                    yield event
            finally:
                ended = await self._surely(self._settle(place, turn, taking, progress))
        yield TurnKept(ended, progress.conversation)

    async def _surely(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what has to be done though the client may be gone, and its task cancelled."""
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return await asyncio.shield(task)

    async def _call_off(
        self,
        place: Place,
        value: Conversation,
        beginning: asyncio.Task[tuple[KeptConversation, KeptTurn]],
        taking: asyncio.Task[None],
    ) -> None:
        """End a turn of which nobody has heard; where it is written down, that it was stopped."""
        await _end(taking)
        await asyncio.wait([beginning])
        if not (beginning.cancelled() or beginning.exception()):
            await self._settle(place, beginning.result()[1], taking, _Progress(value))

    async def _run(
        self,
        agent: Agent,
        place: Place,
        ids: TurnIds,
        value: Conversation,
        tell: Callable[[TurnEvent], None],
    ) -> None:
        own = frozenset(spec.name for spec in place.options.client_tools)
        with watched_turn(tell, self._metrics, *ids) as watched:
            await agent.run(value, place.images, watched, handed_back=own)

    async def _begin(
        self, place: Place, value: Conversation, ids: TurnIds
    ) -> tuple[KeptConversation, KeptTurn]:
        if not place.options.keep:
            return _unkept(place, value, ids)
        if place.kept is None:
            return await self._store.open(
                place.owner,
                lmm=place.lmm,
                before=place.before,
                asked=value,
                images=place.images,
                conversation=ids.conversation,
                turn=ids.turn,
            )
        turn = await self._store.begin(
            place.kept.id,
            place.owner,
            parent=place.parent,
            before=place.before,
            asked=value,
            images=place.images,
            turn=ids.turn,
        )
        title = place.kept.title or first_request(turn.messages)
        return replace(place.kept, title=title, head=turn.id, updated=turn.created), turn

    async def _settle(
        self, place: Place, turn: KeptTurn, taking: asyncio.Task[None], progress: _Progress
    ) -> KeptTurn:
        """End what still runs, and write down how far the turn came."""
        await _end(taking)
        if progress.error and progress.error.told != str(progress.error):
            log.warning("turn %s: %s", turn.id, progress.error)
        if not taking.cancelled() and (failure := taking.exception()):
            log.error("turn %s broke", turn.id, exc_info=failure)
            progress.fail("InternalError", "something in this program broke; its log says what")
        for ref in progress.kept.images.values():
            self._recent.borrow(ref, place.images)
        if not place.options.keep:
            return replace(turn, state=progress.state, error=progress.problem)
        finish = partial(
            self._store.finish,
            turn.id,
            place.owner,
            state=progress.state,
            before=place.before,
            after=progress.kept,
            images=place.images,
            seconds=progress.seconds,
            steps=[_told(step) for step in progress.steps],
            error=progress.problem,
        )
        return await _patiently(finish)

    @asynccontextmanager
    async def _registered(self, turn: str, taking: asyncio.Task[None]) -> AsyncIterator[None]:
        """Let the turn be stopped from elsewhere, and its lease be renewed, as long as it runs."""
        self._running[turn] = taking
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            del self._running[turn]

    async def _renew(self) -> None:
        while self._running:
            await asyncio.sleep(LEASE_SECONDS / 3)
            if self._running:
                try:
                    await self._store.renew(list(self._running))
                except LlavaPlusError as error:
                    log.error("turns that run may be taken for interrupted: %s", error)

    async def aclose(self) -> None:
        """Stop every turn that runs, and write down how far each came."""
        for task in [*self._running.values(), *([self._renewing] if self._renewing else [])]:
            task.cancel()
        with suppress(TimeoutError):  # somebody may never read on
            async with asyncio.timeout(_STOP_SECONDS):
                while self._running or self._settling:
                    await asyncio.sleep(0.01)


class _Progress:
    """How far a turn has come.

    `conversation` is whole: it has no call without its result.
    """

    def __init__(self, asked: Conversation) -> None:
        self.conversation = self._reached = asked
        self.steps: tuple[Step, ...] = ()
        self.state = TurnState.STOPPED
        self.problem: SkillProblem | None = None
        self.error: LlavaPlusError | None = None
        self._began = time.monotonic()
        self.seconds = 0.0

    def note(self, event: TurnEvent) -> None:
        """Take in an event."""
        self.seconds = time.monotonic() - self._began
        if isinstance(event, CallsDecided):
            self._reached = event.conversation
        elif isinstance(event, ResultArrived):
            self._reached = self._reached.add_result(event.result)
        elif isinstance(event, StepFinished):
            self.conversation = self._reached = event.conversation
            self.steps = (*self.steps, event.step)
        elif isinstance(event, TurnFinished):
            self.conversation, self.steps = event.conversation, event.steps
            self.state = TurnState.FINISHED
            if event.error:
                self.error = event.error
                self.fail(event.error.kind, event.error.told)

    @property
    def kept(self) -> Conversation:
        """What is written down: where the turn failed at a call, for people to read that call."""
        return self._reached if self.problem else self.conversation

    def fail(self, kind: str, message: str) -> None:
        """There will be no answer."""
        self.state, self.problem = TurnState.FAILED, SkillProblem(kind=kind, message=message)


def _told(step: Step) -> dict[str, Any]:
    """As `asdict` would tell it, which copies every number in depth."""
    return {**vars(step), "usage": {**vars(step.usage)}}


async def _patiently(finish: Callable[[], Awaitable[KeptTurn]]) -> KeptTurn:
    """Try again, ever less often, while the store is unavailable: an answer is worth waiting for.

    Raises `StoreUnavailable` when it still is after `_PATIENCE`.
    """
    until, pause = time.monotonic() + _PATIENCE, 0.25
    while True:
        try:
            return await finish()
        except StoreUnavailable as error:
            if time.monotonic() + pause > until:
                raise
            log.warning("a turn cannot be kept yet: %s", error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 2.0)


async def _end(taking: asyncio.Task[None]) -> None:
    """Let a turn end now; whoever cares sees how it did."""
    if taking.cancel():
        await asyncio.wait([taking])


def _ids(place: Place) -> TurnIds:
    """A turn's own id, and that of its conversation; one that is not written down has none."""
    if not place.options.keep:
        return TurnIds(turn=new_id("turn"))
    return TurnIds(place.kept.id if place.kept else new_id("conv"), new_id("turn"))


def _unkept(place: Place, value: Conversation, ids: TurnIds) -> tuple[KeptConversation, KeptTurn]:
    """Stand for a conversation and a turn that are not written down."""
    now = datetime.now(UTC)
    conversation = KeptConversation(
        id=ids.conversation,
        owner=place.owner,
        title="",
        lmm=place.lmm,
        skills=value.skills,
        head=None,
        created=now,
        updated=now,
    )
    turn = KeptTurn(
        id=ids.turn,
        conversation=ids.conversation,
        parent=None,
        state=TurnState.RUNNING,
        messages=value.messages,
        images=value.images,
        masks=value.masks,
        seconds=0.0,
        steps=(),
        error=None,
        vote=None,
        comment="",
        created=now,
        finished=None,
    )
    return conversation, turn
