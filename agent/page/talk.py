"""Turns and kept conversations as frames of the page."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ...model.conversation import AssistantMessage, Conversation, UserMessage
from ...skills.images import ImageRef
from ..chats import ChatEvent, Chats, TurnBegan, TurnKept
from ..loop import CallProgressed, StepFinished, TextDelta
from ..store.values import KeptTurn, TurnState, Vote, restored
from .history import branches, history
from .pictures import CANVAS_SIDE, Pictures
from .transcript import Row, rows_of
from .turns import Called, ShownTurn
from .view import Around, Frame, View

__all__ = ["FEEDBACK", "Talk"]

FEEDBACK = {"Like": Vote.UP, "Dislike": Vote.DOWN, "Flag": Vote.FLAG}
"""Votes by the names under which the chatbot shows icons for them."""

_PAUSE = 0.08
"""Seconds between frames while text streams: more of them are not seen and cost time."""

_Rows = list[tuple[str, Row]]
"""Messages, each with the turn that it belongs to."""


class Talk:
    """What the page does with conversations; it keeps nothing about who looks at what."""

    def __init__(self, chats: Chats, pictures: Pictures) -> None:
        self._chats = chats
        self._pictures = pictures

    async def open(
        self, owner: str, conversation: str | None, turn: str | None = None, *, drawings: bool
    ) -> Frame:
        """A conversation up to one of its turns, or to the last one. Raises `NotKept`."""
        if conversation is None:
            return Frame(View(), around=Around(history=await history(self._chats.store, owner)))
        kept = await self._chats.store.conversation(conversation, owner)
        last = turn or kept.head
        path = await self._path(owner, last)
        value = restored(path, ())
        rows = await self._rows(_shown(path), value, owner, drawings)
        running = last if path and path[-1].state is TurnState.RUNNING else None
        view = View(kept.id, last, running, rows=tuple(id_ for id_, _ in rows))
        around = await self._around(owner, kept.title, view, path, value)
        return Frame(view, [row for _, row in rows], _votes(rows, path), around=around)

    async def take(
        self, owner: str, events: AsyncGenerator[ChatEvent, None], *, drawings: bool
    ) -> AsyncGenerator[Frame, None]:
        """A turn as it goes on. Raises what `Chats` raises before a turn has begun."""
        async with aclosing(events):
            began = await anext(events)
            assert isinstance(began, TurnBegan), "the first event of every turn"
            frame = await self.open(owner, began.conversation.id, began.turn.id, drawings=drawings)
            yield frame
            path = await self._path(owner, began.turn.id)
            value, live = restored(path, ()), _shown(path)[-1]
            earlier = frame.rows[: -len(await self._rows([live], value, owner, drawings))]
            shown_at = 0.0
            async for event in events:
                if isinstance(event, TurnKept):
                    kept = event.turn
                    frame = await self.open(owner, kept.conversation, kept.id, drawings=drawings)
                    assert frame.around is not None, "an opened conversation has it"
                    yield replace(frame, around=replace(frame.around, history=None))
                    return
                assert not isinstance(event, TurnBegan), "only the first event is one"
                live.note(event)
                if isinstance(event, StepFinished):
                    value = event.conversation
                small = isinstance(event, TextDelta | CallProgressed)
                if small and time.monotonic() - shown_at < _PAUSE:
                    continue
                rows = await self._rows([live], value, owner, drawings)
                shown_at = time.monotonic()
                yield Frame(frame.view, [*earlier, *(row for _, row in rows)], frame.votes)

    async def answered(self, owner: str, turn: str | None) -> str | None:
        """The nearest turn with an answer, from `turn` back: the next request goes behind it."""
        path = await self._path(owner, turn)
        finished = [kept.id for kept in path if kept.state is TurnState.FINISHED]
        return finished[-1] if finished else None

    async def request(self, owner: str, turn: str) -> str:
        """The text of a turn's request. Raises `NotKept`."""
        kept = await self._chats.store.turn(turn, owner)
        asked = [said.text for said in kept.messages if isinstance(said, UserMessage)]
        return asked[-1] if asked else ""

    async def newest(self, owner: str, turn: str | None) -> ImageRef | None:
        """The newest image up to a turn: the one that marks are for."""
        return _newest(restored(await self._path(owner, turn), ()))

    async def _path(self, owner: str, turn: str | None) -> list[KeptTurn]:
        return await self._chats.store.path(turn, owner) if turn else []

    async def _rows(
        self, turns: Sequence[ShownTurn], value: Conversation, owner: str, drawings: bool
    ) -> _Rows:
        return [
            (turn.id, row)
            for turn in turns
            for row in await rows_of(turn, value, owner, self._pictures, drawings=drawings)
        ]

    async def _around(
        self, owner: str, title: str, view: View, path: Sequence[KeptTurn], value: Conversation
    ) -> Around:
        store = self._chats.store
        assert view.conversation is not None
        listed = await history(store, owner)
        tree = branches(await store.turns(view.conversation, owner))
        if view.running:
            return Around(listed, tree, title)
        newest = _newest(value)
        return Around(
            listed,
            tree,
            title,
            failed=bool(path) and path[-1].state is not TurnState.FINISHED,
            newest=(
                await self._pictures.plain(owner, newest, side=CANVAS_SIDE) if newest else None
            ),
            change=await self._change(owner, path, value),
        )

    async def _change(
        self, owner: str, path: Sequence[KeptTurn], value: Conversation
    ) -> tuple[Path, Path] | None:
        """Before and after of the last change that the last turn made to a picture."""
        parts = [part for turn in _shown(path[-1:]) for part in turn.parts]
        for part in reversed(parts):
            if not isinstance(part, Called) or part.result is None:
                continue
            named = [v for v in part.use.arguments.values() if isinstance(v, str)]
            for handle in (name for name in named if name in value.images):
                change = await self._pictures.change(owner, value.images[handle], part.result)
                if change:
                    return change
        return None


def _shown(path: Sequence[KeptTurn]) -> list[ShownTurn]:
    return [shown for turn in path for shown in ShownTurn.of(turn)]


def _newest(value: Conversation) -> ImageRef | None:
    named = [
        handle
        for message in value.messages
        if not isinstance(message, AssistantMessage)
        for handle in message.images
    ]
    return value.images.get(named[-1]) if named else None


def _votes(rows: _Rows, path: Sequence[KeptTurn]) -> tuple[str | None, ...]:
    """The vote on each run of the assistant's messages, as the chatbot counts them."""
    names = {vote: name for name, vote in FEEDBACK.items()}
    voted = {turn.id: names.get(turn.vote) if turn.vote else None for turn in path}
    runs = groupby(rows, key=lambda numbered: numbered[1]["role"])
    return tuple(voted[list(run)[-1][0]] for role, run in runs if role == "assistant")
