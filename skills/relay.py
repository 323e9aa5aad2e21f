"""From the threads of a call to the event loop that waits for it: progress, at a reader's pace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .progress import Progress, Watch

__all__ = ["relayed"]

_PAUSE = 0.1
"""Seconds between two things told of one call; faster than that nobody reads."""


@contextmanager
def relayed(watch: Watch | None) -> Iterator[Watch | None]:
    """What may be told from any thread, so that `watch` hears of it in this event loop.

    It hears the newest at most ten times a second, the last in any case, and nothing afterwards.
    """
    if watch is None:
        yield None
        return
    relay = _Relay(watch)
    try:
        yield relay.put
    finally:
        relay.close()


class _Relay:
    """Carries the newest progress from the threads of a call into the event loop."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._newest: Progress | None = None
        self._open = True
        self._earliest = 0.0

    def put(self, progress: Progress) -> None:
        with self._lock:
            if not self._open:
                return
            on_its_way, self._newest = self._newest is not None, progress
        if not on_its_way:
            with suppress(RuntimeError):  # the loop was closed while the skill went on
                self._loop.call_soon_threadsafe(self._tell_in_time)

    def close(self) -> None:
        self._tell()
        with self._lock:
            self._open = False

    def _tell_in_time(self) -> None:
        if self._loop.time() < self._earliest:
            self._loop.call_at(self._earliest, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            newest, self._newest = self._newest, None
        if newest and self._open:
            self._earliest = self._loop.time() + _PAUSE
            self._watch(newest)
