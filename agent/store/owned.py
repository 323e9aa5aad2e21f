"""Rows by their id, for those who own them: others learn nothing, not even that there is one."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from .tables import ConversationRow, FileRow, LinkRow, TurnRow
from .values import NotKept

__all__ = ["owned_conversation", "owned_file", "owned_link", "owned_turn"]

_LONGEST = 64


async def owned_conversation(
    session: AsyncSession, id: str, owner: str, *, lock: bool = False
) -> ConversationRow:
    """The row of a conversation. Raises `NotKept`."""
    query = select(ConversationRow).where(ConversationRow.id == id, ConversationRow.owner == owner)
    row = await session.scalar(query.with_for_update() if lock else query) if _sane(id) else None
    if row is None:
        raise NotKept(f"you have no conversation {id!r}")
    return row


async def owned_turn(session: AsyncSession, id: str, owner: str, *, lock: bool = False) -> TurnRow:
    """The row of a turn. Raises `NotKept`."""
    query = (
        select(TurnRow)
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation)
        .where(TurnRow.id == id, ConversationRow.owner == owner)
    )
    locked = query.with_for_update(of=TurnRow)
    row = await session.scalar(locked if lock else query) if _sane(id) else None
    if row is None:
        raise NotKept(f"you have no turn {id!r}")
    return row


async def owned_file(session: AsyncSession, id: str, owner: str, *, lock: bool = False) -> FileRow:
    """The row of a file. Raises `NotKept`."""
    query = select(FileRow).where(FileRow.id == id, FileRow.owner == owner)
    row = await session.scalar(query.with_for_update() if lock else query) if _sane(id) else None
    if row is None:
        raise NotKept(f"you have no file {id!r}")
    return row


async def owned_link(session: AsyncSession, sha256: str, owner: str) -> LinkRow:
    """How one of the owner's conversations holds an artifact. Raises `NotKept`."""
    query = (
        select(LinkRow)
        .join(ConversationRow, ConversationRow.id == LinkRow.conversation)
        .where(LinkRow.artifact == sha256, ConversationRow.owner == owner)
        .limit(1)
    )
    row = await session.scalar(query) if _sane(sha256) else None
    if row is None:
        raise NotKept(f"you have no image {sha256!r}")
    return row


def _sane(id: str) -> bool:
    """Whether a database can be asked for it: PostgreSQL takes no NUL."""
    return len(id) <= _LONGEST and id.isascii() and id.isprintable()
