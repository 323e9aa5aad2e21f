"""How far a long call has come: told to whoever watches it; and the end of one nobody waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Cancelled", "Progress", "Watch", "report_progress", "reporting_each", "reporting_to"]

T = TypeVar("T")


class Cancelled(BaseException):
    """Raised where a skill reports its progress and nobody waits for its call any more.

    No `Exception`: a skill that goes on without a part that failed is to end all the same.
    """


class Progress(BaseModel):
    """`done` of `total` pieces of work, and what these are called in the plural."""

    model_config = ConfigDict(frozen=True)

    done: int
    total: int
    what: str = "steps"


Watch = Callable[[Progress], None]


class _Audience(NamedTuple):
    watches: tuple[Watch, ...]
    has_left: Callable[[], bool]


_audience: ContextVar[_Audience | None] = ContextVar("audience", default=None)


def report_progress(done: int, total: int, what: str = "steps") -> None:
    """Tell whoever watches the call that runs here; costs next to nothing where nobody does.

    Here a call ends that nobody waits for any more: its client has gone, or its deadline has
    passed. What then goes up through the skill is no `Exception`; `finally` and `with` tidy up.

    A thread that the skill starts belongs to the call when it runs in a copy of its context
    (`contextvars.copy_context().run`).
    """
    if not (audience := _audience.get()):
        return
    if audience.has_left():
        raise Cancelled
    if audience.watches:
        progress = Progress(done=done, total=total, what=what)
        for watch in audience.watches:
            watch(progress)


def reporting_each(pieces: Sequence[T], what: str) -> Iterator[T]:
    """One piece of work after the other, each reported when it is done; a single one is not."""
    for done, piece in enumerate(pieces, 1):
        yield piece
        if len(pieces) > 1:
            report_progress(done, len(pieces), what)


def _never() -> bool:
    return False


@contextmanager
def reporting_to(
    watches: Iterable[Watch | None], *, until: Callable[[], bool] = _never
) -> Iterator[None]:
    """Make these hear, in the thread that reports, what is reported within.

    A report that is made when `until` says true raises `Cancelled`.
    """
    token = _audience.set(_Audience(tuple(watch for watch in watches if watch), until))
    try:
        yield
    finally:
        _audience.reset(token)
