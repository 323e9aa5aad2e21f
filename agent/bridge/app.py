"""The bridge: one FastAPI app that is LLaVA-Plus's controller and all of its workers at once.

Old requests do not say which API they are for; their address does. So every API has one of its
own below this app, `/grounding_dino`, which `/get_worker_address` gives and which works wherever
an old client takes the address of a worker.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from ...skills.errors import BadInput, LlavaPlusError
from ...skills.peer_wire import INTERNAL_ERROR, OUT_OF_MEMORY
from ...skills.wire import MAX_REQUEST_BYTES
from ...skills.worker import read_body
from ..dispatcher import Dispatcher
from .errand import Errand
from .llava_plus import APIS
from .openthinkimg import TOOLS
from .registry import HeartBeat, Registration, Registry
from .requests import Api, read

__all__ = ["create_bridge_app"]

log = logging.getLogger(__name__)

_ALL: dict[str, Api] = {**APIS, **TOOLS}
Body = TypeVar("Body", bound=BaseModel)


class _Model(BaseModel):
    model: str


def create_bridge_app(dispatcher: Dispatcher, *, seconds: float = 120) -> FastAPI:
    """The app that serves what `dispatcher` offers, and closes it at its end.

    `seconds` is the time for one request. What goes wrong is answered as old clients expect it:
    HTTP status 200, an `error_code` and a `text`.
    """
    bridge = _Bridge(dispatcher, seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await dispatcher.aclose()

    return FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        exception_handlers={LlavaPlusError: _tell},
        routes=bridge.routes(),
    )


class _Bridge:
    """What each path does."""

    def __init__(self, dispatcher: Dispatcher, seconds: float) -> None:
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._registry = Registry()
        self._running = 0

    def routes(self) -> list[BaseRoute]:
        """The paths of the controller, and those of a worker for all APIs and for each."""
        controller: dict[str, Callable[[Request], Any]] = {
            "/register_worker": self.register,
            "/refresh_all_workers": self.refresh,
            "/list_models": self.list_models,
            "/get_worker_address": self.get_address,
            "/receive_heart_beat": self.receive_heart_beat,
        }
        worker = {
            "/worker_generate": self.generate,
            "/worker_get_status": self.get_status,
            "/model_details": self.model_details,
        }
        below = {f"/{{api}}{path}": answer for path, answer in worker.items()}
        paths = {**controller, **worker, **below}
        return [Route(path, answer, methods=["POST"]) for path, answer in paths.items()]

    async def generate(self, request: Request) -> JSONResponse:
        """Answer one request for the API that the path names, or else its field `model`."""
        body = await _body(request)
        name = request.path_params.get("api") or read(_Model, body).model
        if name not in _ALL:
            raise BadInput(f"there is no API {name!r} here; there is: {', '.join(_ALL)}")
        self._running += 1
        try:
            errand = Errand(self._dispatcher, self._seconds)
            return JSONResponse(await _ALL[name].answer(errand, body))
        finally:
            self._running -= 1

    async def get_status(self, request: Request) -> JSONResponse:
        """The names that are served, and how many requests are being answered."""
        offered = await self._offered()
        name = request.path_params.get("api")
        names = [other for other in offered if name in (None, other)]
        status = {"model_names": names, "speed": 1, "queue_length": self._running}
        return JSONResponse(status)

    async def model_details(self, request: Request) -> JSONResponse:
        """No skill has a context."""
        return JSONResponse({"context_length": 0})

    async def register(self, request: Request) -> JSONResponse:
        """Take in a worker of somebody else."""
        await self._registry.register(read(Registration, await _body(request)))
        return JSONResponse(None)

    async def receive_heart_beat(self, request: Request) -> JSONResponse:
        """Hear that a worker of somebody else lives."""
        heart_beat = read(HeartBeat, await _body(request))
        return JSONResponse({"exist": self._registry.beat(heart_beat)})

    async def refresh(self, request: Request) -> JSONResponse:
        """Look after the workers of others; our own skills are looked up with every request."""
        await self._registry.refresh()
        return JSONResponse(None)

    async def list_models(self, request: Request) -> JSONResponse:
        """Every name that is served, here or by a worker of somebody else."""
        return JSONResponse({"models": sorted({*await self._offered(), *self._registry.models})})

    async def get_address(self, request: Request) -> JSONResponse:
        """Where a name is served: here, or else by a worker of somebody else; empty for none."""
        name = read(_Model, await _body(request)).model
        if name in await self._offered():
            return JSONResponse({"address": f"{request.base_url}{name}"})
        return JSONResponse({"address": self._registry.address(name)})

    async def _offered(self) -> list[str]:
        """The names for which all skills are there."""
        skills = {spec.name for spec in await self._dispatcher.specs()}
        return [name for name, api in _ALL.items() if skills.issuperset(api.skills)]


async def _body(request: Request) -> Mapping[str, Any]:
    data = await read_body(request, MAX_REQUEST_BYTES)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadInput("the body is not a JSON object")
    return body


async def _tell(request: Request, error: Exception) -> JSONResponse:
    """What went wrong, in words that an old client can show."""
    memory = "out of memory" in str(error).lower()
    code = OUT_OF_MEMORY if memory else INTERNAL_ERROR
    log.info("%s: %s", request.url.path, error)
    return JSONResponse({"text": str(error), "error_code": code})
