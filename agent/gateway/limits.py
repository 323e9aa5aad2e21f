"""How much one caller may ask: requests per minute, turns at once, bytes of a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...skills.errors import BadInput
from ...skills.wire import TooLarge
from ..settings import AccessSettings
from .errors import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit", "Limits", "Meter", "TooManyRequests"]

_REMEMBERED = 10_000


class TooManyRequests(BadInput):
    """The caller has used up what it may ask for; `retry_after` seconds later there is more."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """What one caller may ask for. `pixels` is the largest image, width times height."""

    requests_per_minute: int
    concurrent: int
    upload_bytes: int
    pixels: int

    @classmethod
    def of(cls, access: AccessSettings, own: Mapping[str, int] | None = None) -> Limits:
        """The limits in the settings, with a key's own in their place.

        The bytes and pixels of a key can only be fewer: the server itself is held to the others.
        """
        common = cls(
            requests_per_minute=access.requests_per_minute,
            concurrent=access.concurrent,
            upload_bytes=access.upload_bytes,
            pixels=access.pixels,
        )
        chosen = {name: value for name, value in (own or {}).items() if name in vars(common)}
        for name in ("upload_bytes", "pixels"):
            chosen[name] = min(chosen.get(name, vars(common)[name]), vars(common)[name])
        return replace(common, **chosen)


class Meter:
    """Counts what callers ask, in the memory of this process.

    Requests are counted as a token bucket: a minute's worth may come at once, and what has been
    used comes back evenly.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._turns: dict[str, int] = {}

    def take(self, owner: str, per_minute: int) -> None:
        """Count one request. Raises `TooManyRequests`."""
        now = self._clock()
        left, since = self._buckets.pop(owner, (float(per_minute), now))
        left = min(per_minute, left + (now - since) * per_minute / 60)
        self._buckets[owner] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _REMEMBERED:  # the one that has been silent for longest
            self._buckets.pop(next(iter(self._buckets)))
        if left < 1:
            raise TooManyRequests(
                f"at most {per_minute} requests a minute are taken",
                retry_after=(1 - left) * 60 / per_minute,
            )

    @contextmanager
    def turn(self, owner: str, concurrent: int) -> Iterator[None]:
        """Hold one of the turns that a caller may have at once. Raises `TooManyRequests`."""
        running = self._turns.get(owner, 0)
        if running >= concurrent:
            raise TooManyRequests(
                f"{running} turns run already, as many as may at once", retry_after=1
            )
        self._turns[owner] = running + 1
        try:
            yield
        finally:
            self._turns[owner] -= 1
            if not self._turns[owner]:
                del self._turns[owner]


class BodyLimit:
    """ASGI middleware that reads no more than `limit` bytes of a request's body."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._limit:
            await self._refuse(scope, receive, send)
            return
        size, started = 0, False

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise TooLarge(self._told)
            return message

        async def told(message: Message) -> None:
            nonlocal started
            # What the app makes of a body that broke off is not the answer.
            if started or size <= self._limit:
                started = True
                await send(message)

        try:
            await self._app(scope, counted, told)
        except TooLarge:
            if size <= self._limit or started:
                raise
        if size > self._limit and not started:
            await self._refuse(scope, receive, send)

    @property
    def _told(self) -> str:
        return f"the body has more than the {self._limit:,} bytes that are taken"

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = error_response(
            413,
            self._told,
            type="invalid_request_error",
            code="request_too_large",
            headers={"Connection": "close"},  # or the rest of the body would be read
        )
        await response(scope, receive, send)
