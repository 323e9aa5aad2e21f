"""Requests: asking, asking again, in other words, stopping, and saying what one thinks of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from ...skills.errors import BadInput
from ...skills.images import ImageRef, read_file, read_image
from ..chats import Asked, ChatEvent, TurnOptions
from ..store.values import Vote
from .desk import Desk, Handlers, telling
from .marking import Drawing, Kind, read_marks
from .show import Updates, cleared, show
from .talk import FEEDBACK
from .view import View

__all__ = ["Asking", "Example"]


@dataclass(frozen=True)
class Example:
    """A request to begin with, and the file of its picture."""

    text: str
    picture: Path | None


class Asking(Handlers):
    """Handlers that take turns, and those about the last turn."""

    def __init__(self, desk: Desk, examples: Sequence[Example]) -> None:
        super().__init__(desk)
        self._examples = examples

    @telling
    async def ask(
        self,
        view: View,
        entry: Mapping[str, Any] | None,
        canvas: Mapping[str, Any] | None,
        kind: str,
        places: str | None,
        lmm: str,
        skills: Sequence[str],
        steps: int,
        seconds: float,
        drawings: bool,
        request: gr.Request,
    ) -> AsyncGenerator[Updates, None]:
        """Send what stands in the entry, with what was drawn on the newest picture."""
        owner = self.owner(request)
        text = (entry or {}).get("text") or ""
        options = self._options(lmm, skills, steps, seconds)
        if view.editing:
            events = self.chats.edit(owner, view.editing, text, options=options)
        else:
            files = [Path(file) for file in (entry or {}).get("files") or ()]
            drawing = Drawing(canvas, Kind(kind), places or "")
            asked = await self._asked(owner, view, text, files, drawing)
            events = await self._events(owner, view, asked, options)
        async with aclosing(self._take(owner, events, drawings)) as updates:
            async for update in updates:
                yield update

    @telling
    async def begin(
        self,
        lmm: str,
        skills: Sequence[str],
        steps: int,
        seconds: float,
        drawings: bool,
        chosen: gr.SelectData,
        request: gr.Request,
    ) -> AsyncGenerator[Updates, None]:
        """Ask what an example asks."""
        owner, example = self.owner(request), self._examples[int(chosen.index)]
        images = (example.picture.read_bytes(),) if example.picture else ()
        options = self._options(lmm, skills, steps, seconds)
        events = await self._events(owner, View(), Asked(example.text, images), options)
        async with aclosing(self._take(owner, events, drawings)) as updates:
            async for update in updates:
                yield update

    @telling
    async def again(
        self,
        view: View,
        lmm: str,
        skills: Sequence[str],
        steps: int,
        seconds: float,
        drawings: bool,
        request: gr.Request,
    ) -> AsyncGenerator[Updates, None]:
        """Ask the last request once more, as a branch beside it."""
        owner = self.owner(request)
        if view.turn is None:
            raise BadInput("there is no request to repeat yet")
        options = self._options(lmm, skills, steps, seconds)
        events = self.chats.retry(owner, view.turn, options=options)
        async with aclosing(self._take(owner, events, drawings)) as updates:
            async for update in updates:
                yield update

    async def stop(self, view: View, request: gr.Request) -> None:
        """Stop the turn that runs; what it has done so far is kept."""
        if view.running:
            await self.chats.stop(self.owner(request), view.running)

    # --- in other words

    @telling
    async def reword(self, view: View, request: gr.Request) -> AsyncGenerator[Updates, None]:
        """Put the last request into the entry, to be sent in other words."""
        if view.turn is None:
            raise BadInput("there is no request to edit yet")
        text = await self.talk.request(self.owner(request), view.turn)
        yield {
            self.screen.view: replace(view, editing=view.turn),
            self.screen.entry: gr.update(value={"text": text, "files": []}),
            self.screen.reword: gr.update(visible=False),
            self.screen.reword_not: gr.update(visible=True),
        }

    async def keep_wording(self, view: View) -> AsyncGenerator[Updates, None]:
        """Leave the last request as it is."""
        yield cleared(self.screen) | {
            self.screen.view: replace(view, editing=None),
            self.screen.reword: gr.update(visible=True),
            self.screen.reword_not: gr.update(visible=False),
        }

    # --- what one thinks of it

    @telling
    async def vote(
        self, view: View, liked: gr.LikeData, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Keep a vote on the turn whose icon was pressed; pressing it again takes it back."""
        place = liked.index if isinstance(liked.index, int) else liked.index[0]
        names = {True: "Like", False: "Dislike"}
        chosen = names[liked.liked] if isinstance(liked.liked, bool) else liked.liked
        vote, turn = FEEDBACK.get(chosen), view.rows[place]
        await self.chats.store.vote(turn, self.owner(request), vote)
        asks = vote in (Vote.DOWN, Vote.FLAG)
        yield {
            self.screen.view: replace(view, voted=turn),
            self.screen.comment: gr.update(visible=asks, value=""),
        }

    @telling
    async def comment(
        self, view: View, text: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Keep a comment beside the vote."""
        if view.voted:
            owner = self.owner(request)
            kept = await self.chats.store.turn(view.voted, owner)
            await self.chats.store.vote(view.voted, owner, kept.vote, text.strip())
        yield {self.screen.comment: gr.update(visible=False, value="")}

    async def keep_quiet(self) -> AsyncGenerator[Updates, None]:
        """Leave the vote without a comment."""
        yield {self.screen.comment: gr.update(visible=False, value="")}

    # --- parts of the above

    def _options(self, lmm: str, skills: Sequence[str], steps: int, seconds: float) -> TurnOptions:
        """With every skill chosen, those count that the conversation has."""
        chosen = tuple(spec.name for spec in self.chats.skills if spec.name in skills)
        return TurnOptions(
            lmm=lmm,
            skills=None if len(chosen) == len(self.chats.skills) else chosen,
            max_steps=int(steps),
            turn_seconds=float(seconds),
        )

    async def _events(
        self, owner: str, view: View, asked: Asked, options: TurnOptions
    ) -> AsyncGenerator[ChatEvent, None]:
        return self.chats.ask(
            owner,
            asked,
            conversation=view.conversation,
            parent=await self.talk.answered(owner, view.turn),
            options=options,
        )

    async def _asked(
        self,
        owner: str,
        view: View,
        text: str,
        files: Sequence[Path],
        drawing: Drawing,
    ) -> Asked:
        images = [read_file(file) for file in files]
        newest: ImageRef | None = None
        if images:
            newest, _ = await asyncio.to_thread(read_image, images[-1], name=files[-1].name)
        else:
            newest = await self.talk.newest(owner, view.turn)
        size = (newest.width, newest.height) if newest else None
        marks = await asyncio.to_thread(read_marks, drawing, size)
        return Asked(text, tuple(images), marks.boxes, marks.points, marks.masks)

    async def _take(
        self, owner: str, events: AsyncGenerator[ChatEvent, None], drawings: bool
    ) -> AsyncGenerator[Updates, None]:
        """The updates of a turn; the entry is emptied as soon as the request is kept."""
        begun = False
        async with aclosing(self.talk.take(owner, events, drawings=drawings)) as frames:
            async for frame in frames:
                updates = show(self.screen, frame)
                if not begun:
                    emptied = {"text": "", "files": []}
                    updates[self.screen.entry] = gr.update(
                        value=emptied, submit_btn=False, stop_btn=True
                    )
                    updates[self.screen.attached] = updates[self.screen.places] = ""
                    updates[self.screen.begun] = frame.view.turn
                    begun = True
                yield updates
