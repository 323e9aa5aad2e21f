"""Bodies read strictly: what no database takes is refused at the door."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pydantic_core
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["StrictRoute"]

_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class StrictRoute(APIRoute):
    """A route whose JSON body holds no NaN, no half of a surrogate pair and no U+0000."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, given a stricter request."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handler


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        if b"\\u0000" in body and _NULL.search(body):
            raise json.JSONDecodeError("the body holds the character U+0000", "", 0)
        try:
            return pydantic_core.from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error
