"""What all handlers of the page work with."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import gradio as gr

from ...skills.errors import LlavaPlusError
from ..chats import Chats
from .layout import Screen
from .pictures import Pictures
from .show import Updates, told
from .talk import Talk

__all__ = ["Desk", "Handlers", "telling"]

Handler = TypeVar("Handler", bound=Callable[..., AsyncGenerator[Updates, None]])


@dataclass(frozen=True)
class Desk:
    """The chats, the parts of the page, and whose request it is."""

    chats: Chats
    owner: Callable[[gr.Request], str]
    pictures: Pictures
    talk: Talk
    screen: Screen


class Handlers:
    """Handlers of events: each yields updates of the page, one after another."""

    def __init__(self, desk: Desk) -> None:
        self.chats = desk.chats
        self.owner = desk.owner
        self.pictures = desk.pictures
        self.talk = desk.talk
        self.screen = desk.screen


def telling(handler: Handler) -> Handler:
    """Tell the person about an error of ours; any other is logged by gradio."""

    @functools.wraps(handler)
    async def handle(self: Handlers, *args: Any) -> AsyncGenerator[Updates, None]:
        try:
            async with aclosing(handler(self, *args)) as every:
                async for updates in every:
                    yield updates
        except LlavaPlusError as error:
            yield told(self.screen, error.told)

    return cast(Handler, handle)
