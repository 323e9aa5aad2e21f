"""Server-sent events: a stream that ends with its client, and that no slow client holds up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["DONE", "EventStream", "encode_event", "streamed"]

DONE = b"data: [DONE]\n\n"
"""The end of a stream that is whole."""

_PING = b": still here\n\n"
_PING_SECONDS = 15.0
_SLOWEST_SECONDS = 60.0
"""A client that takes nothing for so long counts as gone."""


def encode_event(data: str, *, name: str | None = None) -> bytes:
    """An event with `data`, which is on one line as JSON is."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode()


def streamed(description: str) -> dict[int | str, dict[str, Any]]:
    """That a route may answer with events instead of its model, for its document."""
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": content}}


class EventStream(Response):
    """Sends encoded events as they come, and comments while none does.

    The generator is read as fast as it gives, whatever the client takes; it is closed at once
    when the client goes away. It tells its own errors.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        headers = {
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",  # nginx would hold events back
        }
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._events = events
        self._waiting: list[bytes] = []
        self._ended = False
        self._more = asyncio.Event()
        self._taken = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reading = asyncio.create_task(self._read())
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_gone(receive))
        slow = asyncio.create_task(self._tend())
        try:
            await asyncio.wait((sending, gone, slow), return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = (reading, sending, gone, slow)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in (reading, sending):
            if not task.cancelled():
                task.result()

    async def _read(self) -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    self._waiting.append(event)
                    self._more.set()
        finally:
            self._ended = True
            self._more.set()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        with suppress(OSError):  # gone
            await send(start)
            more = True
            while more:
                await self._more.wait()
                self._more.clear()
                # Whatever has come by now goes out at once: each write costs the same.
                body, more = b"".join(self._waiting), not self._ended
                self._waiting.clear()
                await send({"type": "http.response.body", "body": body, "more_body": more})
                self._taken = time.monotonic()

    async def _tend(self) -> None:
        """Send comments while there is nothing else; ends when the client takes nothing."""
        while (idle := time.monotonic() - self._taken) < _SLOWEST_SECONDS:
            await asyncio.sleep(max(_PING_SECONDS - idle, 0.1))
            if not self._waiting and time.monotonic() - self._taken >= _PING_SECONDS:
                self._waiting.append(_PING)
                self._more.set()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
