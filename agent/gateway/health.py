"""GET /healthz, /readyz and /metrics, for whoever watches the server. They need no key."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...skills.errors import LlavaPlusError
from ..observing.metrics import Metrics, metrics_response
from .routing import chats_of

__all__ = ["router"]

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"])

_SECONDS = 5.0
_NOBODY = "nobody"


class Alive(BaseModel):
    """The process answers."""

    alive: bool = True


class Ready(BaseModel):
    """Whether turns can be taken; `problems` says for each part what is wrong with it."""

    ready: bool
    problems: dict[str, str]


@router.get("/healthz")
async def healthz() -> Alive:
    """Whether the process is alive."""
    return Alive()


@router.get(
    "/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready"}}
)
async def readyz(request: Request) -> Response:
    """Whether the database and the workers answer; the LMMs are loaded before there is a server."""
    chats = chats_of(request)
    found = await asyncio.gather(
        _problem(chats.store.conversations(_NOBODY, limit=1)), _problem(chats.dispatcher.specs())
    )
    problems = {
        part: problem
        for part, problem in zip(("database", "workers"), found, strict=True)
        if problem
    }
    ready = Ready(ready=not problems, problems=problems)
    return JSONResponse(ready.model_dump(), 503 if problems else 200)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format."""
    counted: Metrics = request.app.state.metrics
    return metrics_response(counted)


async def _problem(answer: Awaitable[object]) -> str:
    """What keeps a part from answering, if anything does."""
    try:
        async with asyncio.timeout(_SECONDS):
            await answer
    except TimeoutError:
        return f"no answer within {_SECONDS:g} s"
    except LlavaPlusError as error:
        log.warning("not ready: %s", error)
        return error.told
    return ""
