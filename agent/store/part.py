"""What the parts of the store share: the database, the bytes and the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from .artifacts import Artifacts
from .database import Database

__all__ = ["Clock", "Part", "utc_now"]

Clock = Callable[[], datetime]
"""What tells the time, in UTC."""


def utc_now() -> datetime:
    """This machine's clock; gateways of one database are to agree within a few seconds."""
    return datetime.now(UTC)


class Part:
    """A part of the store."""

    def __init__(self, database: Database, artifacts: Artifacts, clock: Clock) -> None:
        self._database = database
        self._artifacts = artifacts
        self._now = clock
