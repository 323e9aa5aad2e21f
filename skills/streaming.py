"""Answering a call line by line: its progress as it comes, then its result or its problem."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Protocol, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from .calls import SkillResult
from .errors import LlavaPlusError
from .progress import Progress, Watch
from .wire import STREAM_TYPE, encode_problem, encode_progress, encode_result

__all__ = ["answer_in_lines", "unless_gone", "wants_lines"]

T = TypeVar("T")


class Running(Protocol):
    """A call that begins when it is awaited."""

    def __call__(self, *, watch: Watch) -> Coroutine[None, None, SkillResult]:
        """Run it; `watch` hears of its progress."""


def wants_lines(request: Request) -> bool:
    """Whether the client asks for progress."""
    accepted = request.headers.get("accept", "").lower().split(",")
    return any(kind.split(";")[0].strip() == STREAM_TYPE for kind in accepted)


async def answer_in_lines(request: Request, run: Running) -> Response:
    """Answer a call that may tell of its progress.

    What is over before there was any is answered like every other call: so all refusals have
    their status. Raises what the call does then.
    """
    told: asyncio.Queue[Progress | None] = asyncio.Queue()
    call = asyncio.create_task(run(watch=told.put_nowait))
    call.add_done_callback(lambda _: told.put_nowait(None))
    try:
        first = await unless_gone(request, told.get())
        if first is None:
            return Response(encode_result(call.result()), media_type="application/json")
    except BaseException:
        call.cancel()
        raise
    return StreamingResponse(_lines(first, told, call), media_type=STREAM_TYPE)


async def _lines(
    first: Progress, told: asyncio.Queue[Progress | None], call: asyncio.Task[SkillResult]
) -> AsyncIterator[bytes]:
    try:
        progress: Progress | None = first
        while progress:
            yield encode_progress(progress) + b"\n"
            progress = await told.get()
        try:
            last = encode_result(call.result())
        except LlavaPlusError as error:
            last = encode_problem(error)
        yield last + b"\n"
    finally:
        call.cancel()


async def unless_gone(request: Request, waiting: Coroutine[None, None, T]) -> T:
    """Wait for something, and drop it when the client goes away. Raises `ClientDisconnect`."""
    task = asyncio.create_task(waiting)
    # The body has been read, so the next message can only be that the client is gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
