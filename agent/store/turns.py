"""Turns in the store: begun with a lease, finished, voted on, and read along their branches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from ...model.conversation import Conversation
from ...skills.calls import SkillProblem
from ...skills.errors import BadConfiguration
from ...skills.images import ImageRef, ImageStore
from .holding import take_bytes
from .owned import owned_conversation, owned_turn
from .part import Part
from .rows import clean, first_request, kept_turn, new_id, sought, told
from .tables import ConversationRow, LinkRow, TurnRow
from .values import Grown, KeptTurn, NotKept, TurnState, Vote

__all__ = ["LEASE_SECONDS", "Turns"]

LEASE_SECONDS = 30
"""How long a turn that runs is believed to run unless its gateway says so again."""


class Turns(Part):
    """What a store does with turns. All methods raise `NotKept` for what the owner has not."""

    async def turns(self, conversation: str, owner: str) -> list[KeptTurn]:
        """Every turn of a conversation, all branches, oldest first."""
        query = (
            select(TurnRow)
            .where(TurnRow.conversation == conversation)
            .order_by(TurnRow.created, TurnRow.id)
        )
        async with self._database.reading() as session:
            await owned_conversation(session, conversation, owner)
            return [kept_turn(row, self._now()) for row in await session.scalars(query)]

    async def turn(self, id: str, owner: str) -> KeptTurn:
        """One turn."""
        async with self._database.reading() as session:
            return kept_turn(await owned_turn(session, id, owner), self._now())

    async def path(self, turn_id: str, owner: str) -> list[KeptTurn]:
        """The turns from the root to this one."""
        above = (
            select(TurnRow.id, TurnRow.parent, literal(0).label("depth"))
            .where(TurnRow.id == turn_id)
            .cte("above", recursive=True)
        )
        above = above.union_all(
            select(TurnRow.id, TurnRow.parent, above.c.depth + 1).join(
                above, TurnRow.id == above.c.parent
            )
        )
        query = select(TurnRow).join(above, TurnRow.id == above.c.id).order_by(above.c.depth.desc())
        async with self._database.reading() as session:
            await owned_turn(session, turn_id, owner)
            return [kept_turn(row, self._now()) for row in await session.scalars(query)]

    async def begin(
        self,
        conversation: str,
        owner: str,
        *,
        parent: str | None,
        before: Conversation,
        asked: Conversation,
        images: ImageStore,
    ) -> KeptTurn:
        """Keep what `asked` has beyond `before` as a turn that runs, and is now the head.

        It runs as long as `renew` is called at least every `LEASE_SECONDS`. Raises
        `BadConfiguration` when `images` no longer has the bytes of a new image.
        """
        now, grown = self._now(), Grown.between(before, asked)
        turn = TurnRow(
            id=new_id("turn"),
            conversation=conversation,
            parent=parent,
            state=TurnState.RUNNING,
            **told(grown),
            steps=[],
            seconds=0.0,
            comment="",
            created=now,
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
        )
        async with self._database.writing() as session:
            row = await owned_conversation(session, conversation, owner, lock=True)
            if parent is not None:
                await _check_parent(session, parent, row)
            await self._link(session, row, grown, images)
            row.head, row.updated = turn.id, now
            if not row.title:
                row.title = first_request(grown.messages)
                row.sought = sought([row.title])
            session.add(turn)
        return kept_turn(turn, now)

    async def finish(
        self,
        turn: str,
        owner: str,
        *,
        state: TurnState,
        before: Conversation,
        after: Conversation,
        images: ImageStore,
        seconds: float,
        steps: Sequence[Mapping[str, Any]],
        error: SkillProblem | None = None,
    ) -> KeptTurn:
        """Keep how a turn ended, with all that `after` has beyond `before`.

        Raises `BadConfiguration` when `images` no longer has the bytes of a new image.
        """
        now, grown = self._now(), Grown.between(before, after)
        async with self._database.writing() as session:
            conversation = (await owned_turn(session, turn, owner)).conversation
            whole = await owned_conversation(session, conversation, owner, lock=True)
            row = await owned_turn(session, turn, owner, lock=True)
            await self._link(session, whole, grown, images)
            for column, value in told(grown).items():
                setattr(row, column, value)
            row.state, row.seconds, row.steps = state, seconds, [dict(step) for step in steps]
            row.error = error.model_dump() if error else None
            row.finished, row.lease_until = now, None
            whole.updated = now
        return kept_turn(row, now)

    async def renew(self, turns: Collection[str]) -> None:
        """Say that these turns still run."""
        until = self._now() + timedelta(seconds=LEASE_SECONDS)
        running = TurnRow.id.in_(sorted(turns)), TurnRow.state == TurnState.RUNNING
        async with self._database.writing() as session:
            await session.execute(update(TurnRow).where(*running).values(lease_until=until))

    async def vote(self, turn: str, owner: str, vote: Vote | None, comment: str = "") -> KeptTurn:
        """Keep what the person thinks of a turn, in place of what they thought before."""
        async with self._database.writing() as session:
            row = await owned_turn(session, turn, owner, lock=True)
            row.vote, row.comment = vote, clean(comment)
        return kept_turn(row, self._now())

    async def _link(
        self, session: AsyncSession, row: ConversationRow, grown: Grown, images: ImageStore
    ) -> None:
        """Keep the bytes of new images, held by the conversation, whose row is locked."""
        known = set(
            await session.scalars(select(LinkRow.artifact).where(LinkRow.conversation == row.id))
        )
        new = {ref.sha256: ref for ref in grown.images.values() if ref.sha256 not in known}
        await take_bytes(
            session, self._artifacts, {sha256: _data(images, ref) for sha256, ref in new.items()}
        )
        for sha256, ref in new.items():
            facts = ref.model_dump(include={"media_type", "width", "height"})
            session.add(LinkRow(conversation=row.id, artifact=sha256, **facts))


async def _check_parent(session: AsyncSession, parent: str, row: ConversationRow) -> None:
    found = await owned_turn(session, parent, row.owner)
    if found.conversation != row.id:
        raise NotKept(f"the conversation {row.id} has no turn {parent!r}")


def _data(images: ImageStore, ref: ImageRef) -> bytes:
    try:
        return images.data(ref)
    except KeyError:
        raise BadConfiguration(
            f"an image of the turn ({ref.width} x {ref.height}) was let go before it was kept: "
            "give the image store of a turn room for all its images"
        ) from None
