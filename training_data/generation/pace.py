"""Keeping to a server's limits of requests and tokens a minute."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

__all__ = ["Admitted", "Pace"]

_MINUTE = 60.0


@dataclass
class Admitted:
    """A request that was let through; `tokens` may be set right when it is known what it took."""

    at: float
    tokens: int


class Pace:
    """Lets requests through, first come first served, so that none of the last 60 s are too many.

    A request that alone takes more than `tokens` waits until none is left from the last 60 s.
    """

    def __init__(
        self,
        requests: int | None = None,
        tokens: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._sleep = sleep
        self._recent: deque[Admitted] = deque()
        self._queue = asyncio.Lock()

    async def admit(self, tokens: int) -> Admitted:
        """Wait until a request of about so many tokens may be made."""
        async with self._queue:
            while (seconds := self._seconds_until(tokens)) > 0:
                await self._sleep(seconds)
            admitted = Admitted(self._clock(), tokens)
            self._recent.append(admitted)
            return admitted

    def _seconds_until(self, tokens: int) -> float:
        now = self._clock()
        while self._recent and self._recent[0].at + _MINUTE <= now:
            self._recent.popleft()
        taken = sum(admitted.tokens for admitted in self._recent)
        crowded = self._requests is not None and len(self._recent) >= self._requests
        dear = self._tokens is not None and self._recent and taken + tokens > self._tokens
        return self._recent[0].at + _MINUTE - now if crowded or dear else 0.0
