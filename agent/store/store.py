"""The store of conversations: opened once by a gateway, used by all its requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from ...model.conversation import Conversation
from ...skills.images import ImageRef, ImageStore
from .artifacts import Artifacts
from .database import Database
from .files import Files
from .keys import Keys
from .owned import owned_link
from .part import Clock, utc_now
from .turns import LEASE_SECONDS, Turns

__all__ = ["LEASE_SECONDS", "ConversationStore", "open_store"]


class ConversationStore(Turns, Files):
    """Conversations, their turns and images, files, and (in `keys`) the keys of the gateway.

    Everything is asked for with its owner: `NotKept` is raised for what that owner has not, and
    `StoreUnavailable` where the database or the artifacts cannot be used.
    """

    def __init__(self, database: Database, artifacts: Artifacts, clock: Clock) -> None:
        super().__init__(database, artifacts, clock)
        self.keys = Keys(database, artifacts, clock)

    async def expire(self, before: datetime) -> int:
        """Delete what nobody changed since then, conversations and files; how many they were."""
        return await self.expire_conversations(before) + await self.expire_files(before)

    async def artifact(self, sha256: str, owner: str) -> tuple[ImageRef, bytes]:
        """An image of one of the owner's conversations, and its bytes. Raises `NotKept`."""
        row = await self._database.reading(lambda session: owned_link(session, sha256, owner))
        ref = ImageRef(sha256=sha256, media_type=row.media_type, width=row.width, height=row.height)
        return ref, await self._artifacts.get(sha256)

    async def load_images(self, conversation: Conversation, owner: str, into: ImageStore) -> None:
        """Bring the images of a conversation that are not yet in `into`. Raises `NotKept`."""
        for ref in conversation.images.values():
            if into.get(ref.sha256) is None:
                _, data = await self.artifact(ref.sha256, owner)
                await asyncio.to_thread(into.add, data)


@asynccontextmanager
async def open_store(
    url: str, artifacts: str, *, clock: Clock = utc_now
) -> AsyncIterator[ConversationStore]:
    """Open the store in the database `url`, with its bytes in `artifacts`; it is closed at the end.

    `url` is one of SQLAlchemy for asyncio (`sqlite+aiosqlite:///...`, `postgresql+asyncpg://...`),
    `artifacts` a folder or an fsspec URL. The tables are made or brought to the newest form first.
    Raises `BadConfiguration` and `StoreUnavailable`.
    """
    database = Database(url)
    try:
        await database.migrate()
        yield ConversationStore(database, Artifacts(artifacts), clock)
    finally:
        await database.close()
