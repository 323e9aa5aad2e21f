"""Rows by their id, for those who own them: others learn nothing, not even that there is one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import literal, select
from sqlalchemy.orm import Session

from .tables import ConversationRow, FileRow, LinkRow, TurnRow
from .values import NotKept

__all__ = ["owned_conversation", "owned_file", "owned_link", "owned_path", "owned_turn", "sane"]

_LONGEST = 64


def owned_conversation(
    session: Session, id: str, owner: str, *, lock: bool = False
) -> ConversationRow:
    """The row of a conversation. Raises `NotKept`."""
    query = select(ConversationRow).where(ConversationRow.id == id, ConversationRow.owner == owner)
    row = session.scalar(query.with_for_update() if lock else query) if sane(id) else None
    if row is None:
        raise NotKept(f"you have no conversation {id!r}")
    return row


def owned_turn(session: Session, id: str, owner: str, *, lock: bool = False) -> TurnRow:
    """The row of a turn. Raises `NotKept`."""
    query = (
        select(TurnRow)
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation)
        .where(TurnRow.id == id, ConversationRow.owner == owner)
    )
    locked = query.with_for_update(of=TurnRow)
    row = session.scalar(locked if lock else query) if sane(id) else None
    if row is None:
        raise NotKept(f"you have no turn {id!r}")
    return row


def owned_path(session: Session, last: str, owner: str) -> Sequence[TurnRow]:
    """The rows of the turns from the root to this one. Raises `NotKept`."""
    above = (
        select(TurnRow.id, TurnRow.parent, literal(0).label("depth"))
        .where(TurnRow.id == last)
        .cte("above", recursive=True)
    )
    above = above.union_all(
        select(TurnRow.id, TurnRow.parent, above.c.depth + 1).join(
            above, TurnRow.id == above.c.parent
        )
    )
    query = (
        select(TurnRow)
        .join(above, TurnRow.id == above.c.id)
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation)
        .where(ConversationRow.owner == owner)
        .order_by(above.c.depth.desc())
    )
    rows = session.scalars(query).all() if sane(last) else []
    if not rows:
        raise NotKept(f"you have no turn {last!r}")
    return rows


def owned_file(session: Session, id: str, owner: str, *, lock: bool = False) -> FileRow:
    """The row of a file. Raises `NotKept`."""
    query = select(FileRow).where(FileRow.id == id, FileRow.owner == owner)
    row = session.scalar(query.with_for_update() if lock else query) if sane(id) else None
    if row is None:
        raise NotKept(f"you have no file {id!r}")
    return row


def owned_link(session: Session, sha256: str, owner: str) -> LinkRow:
    """How one of the owner's conversations holds an artifact. Raises `NotKept`."""
    query = (
        select(LinkRow)
        .join(ConversationRow, ConversationRow.id == LinkRow.conversation)
        .where(LinkRow.artifact == sha256, ConversationRow.owner == owner)
        .limit(1)
    )
    row = session.scalar(query) if sane(sha256) else None
    if row is None:
        raise NotKept(f"you have no image {sha256!r}")
    return row


def sane(id: str) -> bool:
    """Whether a database can be asked for it: PostgreSQL takes no NUL."""
    return len(id) <= _LONGEST and id.isascii() and id.isprintable()
