"""What lies in the address space of the API and is no route's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Match, Router

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["Unserved"]


class Unserved(BaseRoute):
    """Answers what is below `path` and no route's as if the page, which takes all, was not there.

    So a wrong method is a 405 and an unknown address a 404, in the form of the API.
    """

    def __init__(self, path: str, routes: Sequence[BaseRoute]) -> None:
        self._path = path
        self._router = Router(routes, redirect_slashes=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is for the API."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        ours = scope["type"] == "http" and path.startswith(self._path)
        return (Match.FULL if ours else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises `HTTPException`."""
        await self._router(scope, receive, send)
