"""How far a long call has come: reported inside a skill, and told to whoever watches the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Progress", "Watch", "report_progress", "reporting_to"]


class Progress(BaseModel):
    """`done` of `total` pieces of work, and what these are called in the plural."""

    model_config = ConfigDict(frozen=True)

    done: int
    total: int
    what: str = "steps"


Watch = Callable[[Progress], None]

_watches: ContextVar[tuple[Watch, ...]] = ContextVar("watches", default=())


def report_progress(done: int, total: int, what: str = "steps") -> None:
    """Tell whoever watches the call that runs here; costs next to nothing where nobody does.

    A thread that the skill starts belongs to the call when it runs in a copy of its context
    (`contextvars.copy_context().run`).
    """
    if watches := _watches.get():
        progress = Progress(done=done, total=total, what=what)
        for watch in watches:
            watch(progress)


@contextmanager
def reporting_to(watches: Iterable[Watch | None]) -> Iterator[None]:
    """Make these hear, in the thread that reports, what is reported within."""
    token = _watches.set(tuple(watch for watch in watches if watch))
    try:
        yield
    finally:
        _watches.reset(token)
