"""From the operator's settings to chats that can be asked: LMMs, workers and the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..skills.errors import BadConfiguration, LlavaPlusError
from ..skills.extras import needing
from .session import Parts, SessionOptions, open_parts

if TYPE_CHECKING:
    from ..model.lmm import LMM
    from .chats import Chats
    from .dispatcher import Dispatcher
    from .mcp.source import ToolServers
    from .observing.metrics import Metrics
    from .settings import Settings
    from .store.store import ConversationStore

__all__ = ["lmm_labels", "open_chats"]

log = logging.getLogger(__name__)

_DAY = 24 * 3600.0


@asynccontextmanager
async def open_chats(settings: Settings, *, metrics: Metrics | None = None) -> AsyncIterator[Chats]:
    """Open everything that the settings name, and close it in the end; turns that run are stopped.

    LMMs and calls are counted into `metrics`. Raises `BadConfiguration`, `UnknownSkill` or
    `WorkerUnavailable` when there is no such thing.
    """
    with needing("gateway", "keeping conversations"):
        from .chats import Chats
        from .store.store import open_store
    labels = lmm_labels(settings.lmm.name)
    database = settings.database
    async with (
        open_store(database.url, database.artifacts) as store,
        open_parts(_session_options(settings), settings.lmm.name) as parts,
        _expiring(store, database.retention_days),
    ):
        lmms, dispatcher = (
            _watched(parts, labels, metrics) if metrics else (parts.lmms, parts.dispatcher)
        )
        chats = Chats(
            store,
            dict(zip(labels, lmms, strict=True)),
            dispatcher,
            parts.skills,
            max_steps=settings.lmm.max_steps,
            turn_seconds=settings.lmm.turn_seconds,
            metrics=metrics,
        )
        try:
            async with _following(chats, parts):
                yield chats
        finally:
            await chats.aclose()


def lmm_labels(names: Iterable[str]) -> list[str]:
    """What clients call the LMMs: the model's name, not the server's address or the folder's path.

    Raises `BadConfiguration` when two are called the same.
    """
    labels: list[str] = []
    for name in names:
        url, _, model = name.partition("#")
        if "://" in url and model:
            label = model
        else:
            label = Path(name).name if Path(name).is_dir() else name
        if label in labels:
            raise BadConfiguration(f"two LMMs in lmm.name would both be called {label!r}")
        labels.append(label)
    return labels


def _watched(
    parts: Parts, labels: Sequence[str], metrics: Metrics
) -> tuple[Sequence[LMM], Dispatcher]:
    from .observing.watched import WatchedDispatcher, WatchedLMM

    names = [spec.name for spec in parts.skills]
    lmms = [
        WatchedLMM(lmm, metrics, model=label) for lmm, label in zip(parts.lmms, labels, strict=True)
    ]
    return lmms, WatchedDispatcher(parts.dispatcher, metrics, skills=names)


def _session_options(settings: Settings) -> SessionOptions:
    return SessionOptions(
        lmm=settings.lmm.name[0],
        skills=settings.skills_on_offer,
        workers=settings.workers.urls,
        mcp=settings.mcp.servers,
        mcp_headers=settings.mcp.headers,
        device=settings.lmm.device,
        offer=settings.lmm.offer,
    )


@asynccontextmanager
async def _following(chats: Chats, parts: Parts) -> AsyncIterator[None]:
    """Offer in new turns what MCP servers have changed."""

    async def follow(servers: ToolServers) -> None:
        async for skills in servers.changes():
            log.info("on offer are now: %s", ", ".join(spec.name for spec in skills) or "none")
            chats.skills = skills

    if parts.servers is None:
        yield
        return
    async with _meanwhile(follow(parts.servers)):
        yield


@asynccontextmanager
async def _meanwhile(doing: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(doing)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _expiring(store: ConversationStore, days: int | None) -> AsyncIterator[None]:
    """Delete what is older than so many days, at once and then daily."""
    if days is None:
        yield
        return
    async with _meanwhile(_expire_daily(store, timedelta(days=days))):
        yield


async def _expire_daily(store: ConversationStore, age: timedelta) -> None:
    while True:
        try:
            count = await store.expire(datetime.now(UTC) - age)
            log.info("%d conversations and files older than %d days were deleted", count, age.days)
        except LlavaPlusError as error:  # tomorrow the database may be there again
            log.error("old conversations could not be deleted: %s", error)
        await asyncio.sleep(_DAY)
