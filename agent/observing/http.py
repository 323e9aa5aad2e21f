"""Requests counted by route, as ASGI middleware that passes every message on as it comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CountedRequests"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_NO_ANSWER = 499
"""The status that nginx logs for a client that went away before there was an answer."""


class CountedRequests:
    """Counts and times the requests to `app`, and the event streams that are open.

    To be the outermost middleware, or refusals of others are not seen.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(self._metrics)

        async def noting(message: Message) -> None:
            answer.note(message)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            answer.status = answer.status or 500
            raise
        finally:
            answer.close()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            status = answer.status or _NO_ANSWER
            seconds = time.perf_counter() - began
            self._metrics.request_ended(method, _route(scope), status, seconds)


class _Answer:
    """What is known of the answer so far."""

    def __init__(self, metrics: Metrics) -> None:
        self.status = 0
        self._metrics = metrics
        self._streams = False

    def note(self, message: Message) -> None:
        if message["type"] != "http.response.start":
            return
        self.status = message["status"]
        kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
        if kinds and kinds[0].startswith(b"text/event-stream"):
            self._streams = True
            self._metrics.stream_opened()

    def close(self) -> None:
        if self._streams:
            self._metrics.stream_closed()


def _route(scope: Scope) -> str:
    """The template of the route that answered, with the paths of mounts and routers before it.

    A route knows only its own end of the template; what stands before that in the path was
    matched word by word. Whatever has no template is one and the same: scanners try many paths.
    """
    template = getattr(scope.get("route"), "path_format", None)
    values = scope.get("path_params", {})
    if not isinstance(template, str) or any(f"{{{name}}}" not in template for name in values):
        return "other"
    end = template
    for name, value in values.items():
        end = end.replace(f"{{{name}}}", str(value), 1)
    path: str = scope["path"]
    return path.removesuffix(end) + template if path.endswith(end) else "other"
