"""Conversations in the store: made, found, renamed and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, or_, select
from sqlalchemy.orm import Session

from ...skills.calls import SkillSpec
from ...skills.errors import BadInput
from .artifacts import Artifacts
from .catalogues import Catalogues, release_catalogue
from .database import Database
from .holding import lock_bytes, release_bytes
from .owned import owned_conversation
from .part import Clock, Part
from .rows import clean, conversation_columns, kept_conversation, new_conversation, sought
from .tables import Base, ConversationRow, LinkRow, TurnRow
from .values import KeptConversation

__all__ = ["Conversations"]

_LONGEST_SEARCH = 500
_INSERT = insert(Base.metadata.tables["conversations"])


class Conversations(Part):
    """What a store does with whole conversations."""

    def __init__(self, database: Database, artifacts: Artifacts, clock: Clock) -> None:
        super().__init__(database, artifacts, clock)
        self._catalogues = Catalogues()

    async def create(
        self, owner: str, skills: Sequence[SkillSpec], *, title: str = "", lmm: str = ""
    ) -> KeptConversation:
        """Begin a conversation; without a title it gets one from its first request."""
        kept = new_conversation(owner, skills, title=title, lmm=lmm, now=self._now())
        await self._database.changing(partial(self._insert, kept=kept))
        return kept

    async def conversation(self, id: str, owner: str) -> KeptConversation:
        """One conversation. Raises `NotKept`."""
        return await self._database.reading(
            lambda session: self._kept(session, [owned_conversation(session, id, owner)])[0]
        )

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
        return await self._database.reading(
            lambda session: self._kept(session, session.scalars(query))
        )

    async def owners(self) -> list[str]:
        """Everyone who has conversations: for who runs the store, not for who talks with it."""
        query = select(ConversationRow.owner).distinct().order_by(ConversationRow.owner)
        return await self._database.reading(lambda session: list(session.scalars(query)))

    async def rename(self, conversation: str, owner: str, title: str) -> KeptConversation:
        """Give a conversation another title. Raises `NotKept`."""

        def rename(session: Session) -> KeptConversation:
            row = owned_conversation(session, conversation, owner, lock=True)
            row.title, row.sought = clean(title), sought([title])
            return self._kept(session, [row])[0]

        return await self._database.writing(rename)

    async def delete(self, conversation: str, owner: str) -> None:
        """Delete a conversation and every image that nothing else holds. Raises `NotKept`."""

        def delete(session: Session) -> None:
            self._delete(session, owned_conversation(session, conversation, owner, lock=True))

        await self._database.writing(delete)

    async def expire_conversations(self, before: datetime) -> int:
        """Delete the conversations of all owners that last changed before then; their number."""
        old = select(ConversationRow.id).where(ConversationRow.updated < before)
        found = await self._database.reading(lambda session: session.scalars(old).all())
        gone = [
            await self._database.writing(partial(self._expire, id=id, before=before))
            for id in found
        ]
        return sum(gone)

    def _expire(self, session: Session, id: str, before: datetime) -> bool:
        # Somebody may have gone on with it, or deleted it, meanwhile.
        still = select(ConversationRow).where(
            ConversationRow.id == id, ConversationRow.updated < before
        )
        row = session.scalar(still.with_for_update())
        if row is None:
            return False
        self._delete(session, row)
        return True

    def _delete(self, session: Session, row: ConversationRow) -> None:
        links = select(LinkRow.artifact).where(LinkRow.conversation == row.id)
        locked = lock_bytes(session, session.scalars(links).all())
        session.execute(delete(ConversationRow).where(ConversationRow.id == row.id))
        release_bytes(session, self._artifacts, locked)
        release_catalogue(session, row.catalogue)

    def _insert(self, connection: Connection, kept: KeptConversation) -> None:
        sha256 = self._catalogues.hash(kept.skills)
        self._catalogues.take(connection, sha256, kept.skills)
        connection.execute(_INSERT, conversation_columns(kept, sha256))

    def _kept(self, session: Session, rows: Iterable[ConversationRow]) -> list[KeptConversation]:
        """The conversations of rows."""
        rows = list(rows)
        skills = self._catalogues.read(session, {row.catalogue for row in rows})
        return [kept_conversation(row, skills[row.catalogue]) for row in rows]


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
