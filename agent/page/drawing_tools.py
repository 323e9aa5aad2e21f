"""The canvas and the camera: what is drawn on, and pictures that are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ...skills.images import read_file, read_image, shrunk
from .desk import Handlers, telling
from .pictures import CANVAS_SIDE
from .show import Updates, canvas
from .view import View

__all__ = ["DrawingTools"]


class DrawingTools(Handlers):
    """Handlers that put pictures before the person."""

    @telling
    async def newest(
        self, view: View, entry: Mapping[str, Any] | None, request: gr.Request
    ) -> AsyncGenerator[Updates, None]:
        """Put the picture on the canvas that marks will be for: the last one added, or made."""
        files = [Path(file) for file in (entry or {}).get("files") or ()]
        if files:
            data = read_file(files[-1])
            _, image = await asyncio.to_thread(read_image, data, name=files[-1].name)
            yield {self.screen.canvas: canvas(shrunk(image, CANVAS_SIDE))}
            return
        owner = self.owner(request)
        newest = await self.talk.newest(owner, view.turn)
        path = await self.pictures.plain(owner, newest, side=CANVAS_SIDE) if newest else None
        yield {self.screen.canvas: canvas(str(path) if path else None)}

    async def take_photo(
        self, entry: Mapping[str, Any] | None, photo: str | None
    ) -> AsyncGenerator[Updates, None]:
        """Add a photo to the request."""
        if photo is None:
            return
        text, files = (entry or {}).get("text") or "", (entry or {}).get("files") or []
        yield {
            self.screen.entry: gr.update(value={"text": text, "files": [*files, photo]}),
            self.screen.camera: None,
        }
