"""Turns in the store: begun with a lease, finished, voted on, and read along their branches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, select, update
from sqlalchemy.orm import Session

from ...model.conversation import Conversation
from ...skills.calls import SkillProblem
from ...skills.errors import BadConfiguration
from ...skills.images import ImageRef, ImageStore
from .conversations import Conversations
from .holding import take_bytes
from .owned import owned_conversation, owned_path, owned_turn, sane
from .rows import (
    begun_turn,
    clean,
    first_request,
    kept_turn,
    new_conversation,
    new_id,
    sought,
    told,
    turn_columns,
)
from .tables import Base, LinkRow, TurnRow
from .values import Grown, KeptConversation, KeptTurn, NotKept, TurnState, Vote

__all__ = ["LEASE_SECONDS", "Turns"]

LEASE_SECONDS = 30
"""How long a turn that runs is believed to run unless its gateway says so again."""

_LEASE = timedelta(seconds=LEASE_SECONDS)

# The statements of every turn are made once: to make one takes longer than to run it.
_conversations, _turns = (Base.metadata.tables[name] for name in ("conversations", "turns"))
_untitled = _conversations.c.title == ""
_BEGIN = insert(_turns)
_GROW = (
    update(_conversations)
    .where(_conversations.c.id == bindparam("conversation"))
    .where(_conversations.c.owner == bindparam("whose"))
    .values(
        head=bindparam("turn"),
        updated=bindparam("now"),
        title=case((_untitled, bindparam("request")), else_=_conversations.c.title),
        sought=case((_untitled, bindparam("words")), else_=_conversations.c.sought),
    )
    .returning(_conversations.c.id)
)
_OF_TURN = select(_turns.c.conversation).where(_turns.c.id == bindparam("turn"))
_TOUCH = (
    update(_conversations)
    .where(_conversations.c.id == _OF_TURN.scalar_subquery())
    .where(_conversations.c.owner == bindparam("whose"))
    .values(updated=bindparam("now"))
    .returning(_conversations.c.id)
)
_END = (
    update(_turns)
    .where(_turns.c.id == bindparam("turn"))
    .returning(_turns.c.parent, _turns.c.created, _turns.c.vote, _turns.c.comment)
)


class Turns(Conversations):
    """What a store does with turns. All methods raise `NotKept` for what the owner has not."""

    async def turns(self, conversation: str, owner: str) -> list[KeptTurn]:
        """Every turn of a conversation, all branches, oldest first."""
        query = (
            select(TurnRow)
            .where(TurnRow.conversation == conversation)
            .order_by(TurnRow.created, TurnRow.id)
        )

        def read(session: Session) -> list[KeptTurn]:
            owned_conversation(session, conversation, owner)
            return [kept_turn(row, self._now()) for row in session.scalars(query)]

        return await self._database.reading(read)

    async def turn(self, id: str, owner: str) -> KeptTurn:
        """One turn."""
        return await self._database.reading(
            lambda session: kept_turn(owned_turn(session, id, owner), self._now())
        )

    async def path(self, turn_id: str, owner: str) -> list[KeptTurn]:
        """The turns from the root to this one."""
        return await self._database.reading(
            lambda session: [
                kept_turn(row, self._now()) for row in owned_path(session, turn_id, owner)
            ]
        )

    async def open(
        self,
        owner: str,
        *,
        lmm: str,
        before: Conversation,
        asked: Conversation,
        images: ImageStore,
        conversation: str | None = None,
        turn: str | None = None,
    ) -> tuple[KeptConversation, KeptTurn]:
        """Begin a conversation, with the skills of `before`, and its first turn; see `begin`.

        Their ids are new ones where none are given.
        """
        now, grown = self._now(), Grown.between(before, asked)
        empty = new_conversation(owner, before.skills, title="", lmm=lmm, now=now, id=conversation)
        begun = begun_turn(turn or new_id("turn"), empty.id, grown, created=now)
        kept = replace(empty, title=first_request(grown.messages), head=begun.id)
        columns = turn_columns(begun, grown, now + _LEASE)

        def write(connection: Connection) -> None:
            self._insert(connection, kept)
            self._keep_bytes(connection, kept.id, grown, images)
            connection.execute(_BEGIN, columns)

        await self._database.changing(write)
        return kept, begun

    async def begin(
        self,
        conversation: str,
        owner: str,
        *,
        parent: str | None,
        before: Conversation,
        asked: Conversation,
        images: ImageStore,
        turn: str | None = None,
    ) -> KeptTurn:
        """Keep what `asked` has beyond `before` as a turn that runs, and is now the head.

        Its id is a new one if none is given. It runs as long as `renew` is called at least every
        `LEASE_SECONDS`. Raises `BadConfiguration` when `images` no longer has the bytes of a new
        image.
        """
        now, grown = self._now(), Grown.between(before, asked)
        id = turn or new_id("turn")
        begun = begun_turn(id, conversation, grown, parent=parent, created=now)
        columns = turn_columns(begun, grown, now + _LEASE)

        def write(connection: Connection) -> None:
            _grow(connection, begun, owner)
            if parent is not None:
                _check_parent(connection, parent, conversation)
            self._keep_bytes(connection, conversation, grown, images)
            connection.execute(_BEGIN, columns)

        await self._database.changing(write)
        return begun

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
        ended: dict[str, Any] = {
            "state": state,
            "seconds": seconds,
            "steps": [dict(step) for step in steps],
            "finished": now,
        }
        problem = error.model_dump() if error else None
        columns = {**told(grown), **ended, "error": problem, "lease_until": None}

        def write(connection: Connection) -> KeptTurn:
            conversation = _touch(connection, turn, owner, now)
            self._keep_bytes(connection, conversation, grown, images)
            begun = connection.execute(_END, {"turn": turn, **columns}).one()
            return begun_turn(turn, conversation, grown, **begun._mapping, **ended, error=error)

        return await self._database.changing(write)

    async def renew(self, turns: Collection[str]) -> None:
        """Say that these turns still run."""
        until = self._now() + _LEASE
        running = TurnRow.id.in_(sorted(turns)), TurnRow.state == TurnState.RUNNING
        longer = update(TurnRow).where(*running).values(lease_until=until)
        await self._database.changing(lambda connection: connection.execute(longer).close())

    async def vote(self, turn: str, owner: str, vote: Vote | None, comment: str = "") -> KeptTurn:
        """Keep what the person thinks of a turn, in place of what they thought before."""

        def write(session: Session) -> KeptTurn:
            row = owned_turn(session, turn, owner, lock=True)
            row.vote, row.comment = vote, clean(comment)
            return kept_turn(row, self._now())

        return await self._database.writing(write)

    def _keep_bytes(
        self, connection: Connection, conversation: str, grown: Grown, images: ImageStore
    ) -> None:
        """Keep the bytes of new images, held by the conversation, whose row is locked."""
        refs = {ref.sha256: ref for ref in grown.images.values()}
        if not refs:
            return
        links = select(LinkRow.artifact).where(LinkRow.conversation == conversation)
        for sha256 in connection.scalars(links.where(LinkRow.artifact.in_(sorted(refs)))):
            del refs[sha256]
        contents = {sha256: _data(images, ref) for sha256, ref in refs.items()}
        take_bytes(connection, self._artifacts, contents)
        held = [_link(conversation, ref) for ref in refs.values()]
        if held:
            connection.execute(insert(LinkRow), held)


def _link(conversation: str, ref: ImageRef) -> dict[str, Any]:
    facts = ref.model_dump(include={"media_type", "width", "height"})
    return {"conversation": conversation, "artifact": ref.sha256, **facts}


def _grow(connection: Connection, turn: KeptTurn, owner: str) -> None:
    """Lock the conversation of a new turn, whose head it now is. Raises `NotKept`."""
    title = first_request(turn.messages)
    new = {"turn": turn.id, "now": turn.created, "request": title, "words": sought([title])}
    mine = {"conversation": turn.conversation, "whose": owner}
    found = connection.scalar(_GROW, {**mine, **new}) if sane(turn.conversation) else None
    if found is None:
        raise NotKept(f"you have no conversation {turn.conversation!r}")


def _check_parent(connection: Connection, parent: str, conversation: str) -> None:
    found = connection.scalar(_OF_TURN, {"turn": parent}) if sane(parent) else None
    if found != conversation:
        raise NotKept(f"the conversation {conversation} has no turn {parent!r}")


def _touch(connection: Connection, turn: str, owner: str, now: datetime) -> str:
    """Lock the conversation of a turn, which changes now; its id. Raises `NotKept`."""
    mine = {"turn": turn, "whose": owner, "now": now}
    found: str | None = connection.scalar(_TOUCH, mine) if sane(turn) else None
    if found is None:
        raise NotKept(f"you have no turn {turn!r}")
    return found


def _data(images: ImageStore, ref: ImageRef) -> bytes:
    try:
        return images.data(ref)
    except KeyError:
        raise BadConfiguration(
            f"an image of the turn ({ref.width} x {ref.height}) was let go before it was kept: "
            "give the image store of a turn room for all its images"
        ) from None
