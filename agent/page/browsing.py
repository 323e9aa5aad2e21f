"""The history: finding, opening, renaming, deleting and taking home conversations."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import gradio as gr

from ...skills.errors import BadInput
from ...skills.images import ImageStore
from ..store.values import restored
from .desk import Handlers, telling
from .history import history, write_download
from .show import Updates, cleared, show
from .view import View

__all__ = ["Browsing"]


class Browsing(Handlers):
    """Handlers that open conversations and branches, and those about the list of them."""

    @telling
    async def load(
        self, address: str, drawings: bool, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Open what the address of the page names; at first the list alone, so that it shows."""
        owner = self.owner(request)
        yield show(self.screen, await self.talk.open(owner, None, drawings=drawings))
        if address:
            frame = await self.talk.open(owner, address, drawings=drawings)
            yield show(self.screen, frame, watched=False)

    @telling
    async def new(self, drawings: bool, request: gr.Request) -> AsyncGenerator[Updates, None]:
        """Begin a new conversation."""
        frame = await self.talk.open(self.owner(request), None, drawings=drawings)
        yield show(self.screen, frame) | cleared(self.screen)

    @telling
    async def open(
        self, conversation: str | None, drawings: bool, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Open a conversation of the list."""
        frame = await self.talk.open(self.owner(request), conversation, drawings=drawings)
        yield show(self.screen, frame, watched=False) | cleared(self.screen)

    @telling
    async def branch(
        self, view: View, turn: str, drawings: bool, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Go back to a turn; the next request follows it."""
        frame = await self.talk.open(
            self.owner(request), view.conversation, turn, drawings=drawings
        )
        yield show(self.screen, frame, watched=False)

    @telling
    async def look_again(
        self, view: View, drawings: bool, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Show the same turns again: drawn otherwise, or as far as they have come by now."""
        frame = await self.talk.open(
            self.owner(request), view.conversation, view.turn, drawings=drawings
        )
        yield show(self.screen, frame, watched=False)

    @telling
    async def search(
        self, view: View, text: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """List the conversations in which a text occurs."""
        found = await history(self.chats.store, self.owner(request), text)
        listed = view.conversation in {id_ for _, id_ in found}
        yield {
            self.screen.history: gr.update(
                choices=list(found), value=view.conversation if listed else None
            )
        }

    # --- the one that is open

    @telling
    async def rename(
        self, view: View, title: str, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Give the conversation another title."""
        owner = self.owner(request)
        if not title.strip():
            raise BadInput("the title is empty")
        await self.chats.store.rename(_opened(view), owner, title.strip())
        listed = await history(self.chats.store, owner)
        yield {self.screen.history: gr.update(choices=list(listed), value=view.conversation)}

    async def ask_to_delete(self, view: View) -> AsyncGenerator[Updates, None]:
        """Ask whether it is meant."""
        yield {self.screen.delete_sure: gr.update(visible=view.conversation is not None)}

    @telling
    async def delete(
        self, view: View, drawings: bool, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Delete the conversation with all of its turns and pictures."""
        owner = self.owner(request)
        await self.chats.delete(owner, _opened(view))
        frame = await self.talk.open(owner, None, drawings=drawings)
        yield show(self.screen, frame) | cleared(self.screen)

    @telling
    async def download(self, view: View, request: gr.Request) -> AsyncGenerator[Updates, None]:
        """Write the conversation, up to the last turn shown, into two files."""
        owner = self.owner(request)
        kept = await self.chats.store.conversation(_opened(view), owner)
        path = await self.chats.store.path(view.turn, owner) if view.turn else []
        value, images = restored(path, kept.skills), ImageStore()
        await self.chats.store.load_images(value, owner, images)
        with tempfile.TemporaryDirectory() as folder:
            record, archive = write_download(value, images, Path(folder), kept.id)
            # Gradio makes its own copies before it asks for the next update.
            yield {
                self.screen.download_box: gr.update(open=True),
                self.screen.record: gr.update(value=str(record), interactive=True),
                self.screen.archive: gr.update(value=str(archive), interactive=True),
            }


def _opened(view: View) -> str:
    if view.conversation is None:
        raise BadInput("there is no conversation yet: ask something first")
    return view.conversation
