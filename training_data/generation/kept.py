"""What was once found out is kept on the disk, and never found out twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..suites.answers import AnswerFile

__all__ = ["Kept"]


class Kept:
    """Values by content hash, in a file; of two who want the same at once, one waits."""

    def __init__(self, file: AnswerFile) -> None:
        self._file = file
        self._busy: dict[str, asyncio.Lock] = {}

    async def get(
        self, key: str, find_out: Callable[[], Awaitable[Any]], **about: Any
    ) -> tuple[Any, bool]:
        """The JSON value under the key, and whether it is new; it is on the disk by then.

        `about` is for people who read the file.
        """
        async with self._busy.setdefault(key, asyncio.Lock()):
            value = self._file.get(key)
            if new := value is None:
                value = await find_out()
                self._file.put(key, value, **about)
        self._busy.pop(key, None)
        return value, new
