"""LLaVA-Plus's controller and workers as their protocol has them, with answers that tests set."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

from fastapi import FastAPI, Request, Response
from PIL import Image

THRESHOLDS = {"box_threshold": 0.3, "text_threshold": 0.25}


def b64(image: Image.Image, kind: str = "PNG") -> str:
    """An image as old clients and workers write it."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return base64.b64encode(buffer.getvalue()).decode()


def picture_in(text: str) -> Image.Image:
    """And as they read it."""
    return Image.open(io.BytesIO(base64.b64decode(text)))


class OldWorkers:
    """Workers by the names that they have registered under; each answers what `answers` says."""

    def __init__(self) -> None:
        self.reset()
        self.app = FastAPI()
        self.app.post("/get_worker_address")(self.get_worker_address)
        self.app.post("/list_models")(self.list_models)
        self.app.post("/{name}/worker_generate")(self.worker_generate)

    def reset(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.paths: list[str] = []
        self.status = 200
        self.seconds = 0.0

    async def get_worker_address(self, request: Request) -> dict[str, str]:
        name = (await request.json())["model"]
        self.paths.append(request.url.path)
        return {"address": f"{request.base_url}{name}" if name in self.answers else ""}

    async def list_models(self) -> dict[str, list[str]]:
        return {"models": sorted(self.answers)}

    async def worker_generate(self, name: str, request: Request) -> Any:
        body = await request.json()
        self.asked.append((name, body))
        await asyncio.sleep(self.seconds)
        answer = self.answers[name]
        return Response(answer, self.status) if isinstance(answer, str) else answer
