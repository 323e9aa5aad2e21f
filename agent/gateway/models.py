"""GET /v1/models: the LMMs that answer here."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel
from starlette.requests import Request

from .errors import UnknownModel
from .problems import documented
from .routing import ChatCaller, chats_of

__all__ = ["router"]

router = APIRouter(tags=["models"])

_STARTED = int(time.time())


class Model(BaseModel):
    """An LMM; `created` is when this server began, which is all that it knows."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "llava-plus"


class Models(BaseModel):
    """The LMMs, of which the first is the default."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=documented())
async def list_models(request: Request, caller: ChatCaller) -> Models:
    """The LMMs on offer."""
    return Models(data=[_model(name) for name in chats_of(request).lmms])


@router.get("/v1/models/{model:path}", responses=documented(404))
async def retrieve_model(
    request: Request, model: Annotated[str, Path()], caller: ChatCaller
) -> Model:
    """One LMM by its name, which may hold slashes."""
    lmms = chats_of(request).lmms
    if model not in lmms:
        known = ", ".join(lmms)
        raise UnknownModel(f"there is no model {model!r}; there is: {known}", param="model")
    return _model(model)


def _model(name: str) -> Model:
    return Model(id=name, created=_STARTED)
