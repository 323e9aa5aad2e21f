"""Server-sent events: a stream that ends with its client, and that no slow client holds up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["DONE", "EventStream", "encode_event"]

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
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reading = asyncio.create_task(self._read())
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = (reading, sending, gone)
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
                    self._queue.put_nowait(event)
        finally:
            self._queue.put_nowait(None)

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        with suppress(OSError):  # gone, or too slow, which is a TimeoutError
            await self._pass(send, start)
            while event := await self._next():
                await self._pass(
                    send, {"type": "http.response.body", "body": event, "more_body": True}
                )
            await self._pass(send, {"type": "http.response.body", "body": b""})

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(_PING_SECONDS):
                return await self._queue.get()
        except TimeoutError:
            return _PING

    @staticmethod
    async def _pass(send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(_SLOWEST_SECONDS):
            await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
