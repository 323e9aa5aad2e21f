"""Conversations in the store: made, found, renamed and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from ...skills.calls import SkillSpec
from ...skills.errors import BadInput
from .artifacts import Artifacts
from .database import Database, take_rows
from .holding import lock_bytes, release_bytes
from .owned import owned_conversation
from .part import Clock, Part
from .rows import catalogue, clean, kept_conversation, new_id, sought
from .tables import CatalogueRow, ConversationRow, LinkRow, TurnRow
from .values import KeptConversation

__all__ = ["Conversations"]

_LONGEST_SEARCH = 500
_MOST_CATALOGUES = 256


class Conversations(Part):
    """What a store does with whole conversations."""

    def __init__(self, database: Database, artifacts: Artifacts, clock: Clock) -> None:
        super().__init__(database, artifacts, clock)
        self._catalogues: dict[str, tuple[SkillSpec, ...]] = {}

    async def create(
        self, owner: str, skills: Sequence[SkillSpec], *, title: str = "", lmm: str = ""
    ) -> KeptConversation:
        """Begin a conversation; without a title it gets one from its first request."""
        sha256, specs = catalogue(skills)
        now = self._now()
        row = ConversationRow(
            id=new_id("conv"),
            owner=owner,
            title=clean(title),
            sought=sought([title]),
            lmm=clean(lmm),
            catalogue=sha256,
            created=now,
            updated=now,
        )
        async with self._database.writing() as session:
            await take_rows(session, CatalogueRow, {sha256: {"sha256": sha256, "specs": specs}})
            session.add(row)
        return kept_conversation(row, tuple(skills))

    async def conversation(self, id: str, owner: str) -> KeptConversation:
        """One conversation. Raises `NotKept`."""
        async with self._database.reading() as session:
            row = await owned_conversation(session, id, owner)
            return (await self._kept(session, [row]))[0]

    async def conversations(
        self, owner: str, *, search: str = "", limit: int = 50, before: datetime | None = None
    ) -> list[KeptConversation]:
        """The owner's conversations, the one last changed first.

        `search` is looked for in titles and in what was said, in upper or lower case; `before` is
        the `updated` of the last one of the page before. Raises `BadInput` for a search that is
        too long.
        """
        query = select(ConversationRow).where(ConversationRow.owner == owner)
        if before is not None:
            query = query.where(ConversationRow.updated < before)
        if search.strip():
            query = query.where(_says(search.strip()))
        query = query.order_by(ConversationRow.updated.desc(), ConversationRow.id).limit(limit)
        async with self._database.reading() as session:
            return await self._kept(session, (await session.scalars(query)).all())

    async def owners(self) -> list[str]:
        """Everyone who has conversations: for who runs the store, not for who talks with it."""
        query = select(ConversationRow.owner).distinct().order_by(ConversationRow.owner)
        async with self._database.reading() as session:
            return list((await session.scalars(query)).all())

    async def rename(self, conversation: str, owner: str, title: str) -> KeptConversation:
        """Give a conversation another title. Raises `NotKept`."""
        async with self._database.writing() as session:
            row = await owned_conversation(session, conversation, owner, lock=True)
            row.title, row.sought = clean(title), sought([title])
            return (await self._kept(session, [row]))[0]

    async def delete(self, conversation: str, owner: str) -> None:
        """Delete a conversation and every image that nothing else holds. Raises `NotKept`."""
        async with self._database.writing() as session:
            row = await owned_conversation(session, conversation, owner, lock=True)
            await self._delete(session, row)

    async def expire_conversations(self, before: datetime) -> int:
        """Delete the conversations of all owners that last changed before then; their number."""
        old = select(ConversationRow.id).where(ConversationRow.updated < before)
        async with self._database.reading() as session:
            found = (await session.scalars(old)).all()
        gone = 0
        for id in found:
            async with self._database.writing() as session:
                # Somebody may have gone on with it, or deleted it, meanwhile.
                still = select(ConversationRow).where(
                    ConversationRow.id == id, ConversationRow.updated < before
                )
                if row := await session.scalar(still.with_for_update()):
                    await self._delete(session, row)
                    gone += 1
        return gone

    async def _delete(self, session: AsyncSession, row: ConversationRow) -> None:
        links = select(LinkRow.artifact).where(LinkRow.conversation == row.id)
        locked = await lock_bytes(session, (await session.scalars(links)).all())
        await session.execute(delete(ConversationRow).where(ConversationRow.id == row.id))
        await release_bytes(session, self._artifacts, locked)
        await _release_catalogue(session, row.catalogue)

    async def _kept(
        self, session: AsyncSession, rows: Iterable[ConversationRow]
    ) -> list[KeptConversation]:
        """The conversations of rows. Catalogues never change, so each is read once."""
        rows = list(rows)
        if len(self._catalogues) > _MOST_CATALOGUES:
            self._catalogues.clear()
        unknown = {row.catalogue for row in rows} - set(self._catalogues)
        if unknown:
            query = select(CatalogueRow).where(CatalogueRow.sha256.in_(sorted(unknown)))
            for found in await session.scalars(query):
                specs = tuple(SkillSpec.model_validate(spec) for spec in found.specs)
                self._catalogues[found.sha256] = specs
        return [kept_conversation(row, self._catalogues[row.catalogue]) for row in rows]


def _says(search: str) -> Any:
    """The condition that a title or a turn of a conversation says so."""
    if len(search) > _LONGEST_SEARCH:
        raise BadInput(
            f"the search has {len(search):,} characters; at most {_LONGEST_SEARCH} are taken"
        )
    words = sought([search])
    turns = exists().where(
        TurnRow.conversation == ConversationRow.id,
        TurnRow.sought.contains(words, autoescape=True),
    )
    return or_(ConversationRow.sought.contains(words, autoescape=True), turns)


async def _release_catalogue(session: AsyncSession, sha256: str) -> None:
    """Delete the specs that no conversation has: a client's own may say something of it."""
    locked = select(CatalogueRow.sha256).where(CatalogueRow.sha256 == sha256).with_for_update()
    await session.execute(locked)
    used = exists().where(ConversationRow.catalogue == CatalogueRow.sha256)
    await session.execute(delete(CatalogueRow).where(CatalogueRow.sha256 == sha256, ~used))
