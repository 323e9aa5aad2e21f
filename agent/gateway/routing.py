"""What every route needs: who asks, and the chats of the app."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path
from starlette.requests import Request

from ..chats import Chats
from ..settings import Settings
from .access import Access, Caller, caller
from .inbound import ImageReader

__all__ = ["ChatCaller", "Id", "Sha256", "access_of", "chats_of", "reader_of"]

ChatCaller = Annotated[Caller, Depends(caller("chat"))]
"""Who may chat, and keep conversations and files."""

Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


def chats_of(request: Request) -> Chats:
    """The chats that the app serves."""
    chats: Chats = request.app.state.chats
    return chats


def access_of(request: Request) -> Access:
    """Who knows the app's callers and counts their turns."""
    access: Access = request.app.state.access
    return access


def reader_of(request: Request, caller: Caller) -> ImageReader:
    """What brings the images of a request, as far as the settings allow."""
    settings: Settings = request.app.state.settings
    return ImageReader(chats_of(request).store, caller, settings.access.image_urls)
