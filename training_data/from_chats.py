"""Records and preferences from the conversations that a gateway kept, and from people's votes.

A preference is two answers to one request, in the form of TRL's trainers (`prompt`, `chosen`,
`rejected`, beside them `tools` as JSON text and `images` as whole paths; TRL 1.16).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, TextIO

from ..agent.record import image_name
from ..agent.store.store import ConversationStore
from ..agent.store.values import KeptConversation, KeptTurn, TurnState, Vote, restored
from ..model.conversation import Message, UserMessage
from ..model.record import Record
from ..skills.images import ImageRef
from .records.image_files import rebased
from .records.streams import written
from .records.trl_export import write as trl_row

__all__ = ["VOTES", "Counts", "NoPair", "NoRecord", "write_chats"]

VOTES: Mapping[str, frozenset[Vote | None]] = {
    "up": frozenset({Vote.UP}),
    "down": frozenset({Vote.DOWN}),
    "flag": frozenset({Vote.FLAG}),
    "any": frozenset(Vote),
    "all": frozenset({*Vote, None}),
}
"""The turns that are asked for, by their votes; None are those without one."""

_SOURCE = "chats"
_EVERY = 2**31 - 1


class NoRecord(StrEnum):
    """Why a turn is no record."""

    OTHER_VOTE = "other-vote"
    NOT_FINISHED = "not-finished"
    NO_ANSWER = "no-answer"
    UNFINISHED_BEFORE = "unfinished-before"
    DISLIKED_BEFORE = "disliked-before"
    BROKEN_TEXT = "broken-text"


class NoPair(StrEnum):
    """Why two turns with one parent are no preference."""

    OTHER_REQUEST = "other-request"
    NOT_ANSWERED = "not-answered"
    UNFINISHED_BEFORE = "unfinished-before"
    SAME_ANSWER = "same-answer"
    FLAGGED = "flagged"
    SAME_VOTE = "same-vote"
    VOTE_AGAINST_ORDER = "vote-against-order"
    NOT_NEXT = "not-next"
    BROKEN_TEXT = "broken-text"


@dataclass
class Counts:
    """What became of the turns, and of every two answers that stand beside each other."""

    conversations: int = 0
    turns: int = 0
    records: int = 0
    pairs: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    no_pair: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """The counts as one object."""
        return {
            "conversations": self.conversations,
            "turns": self.turns,
            "records": self.records,
            "left_out": dict(self.left_out.most_common()),
            "pairs": self.pairs,
            "no_pair": dict(self.no_pair.most_common()),
        }


@dataclass(frozen=True)
class _Chat:
    """A conversation with all its turns."""

    kept: KeptConversation
    turns: Sequence[KeptTurn]

    @cached_property
    def by_id(self) -> Mapping[str, KeptTurn]:
        return {turn.id: turn for turn in self.turns}

    def path(self, turn: KeptTurn) -> list[KeptTurn]:
        """The turns from the root to this one."""
        path = [turn]
        while (parent := path[-1].parent) is not None:
            path.append(self.by_id[parent])
        return path[::-1]

    def beside(self) -> Iterator[list[KeptTurn]]:
        """The turns that have one parent, or none, oldest first, wherever there are several."""
        siblings: dict[str | None, list[KeptTurn]] = defaultdict(list)
        for turn in self.turns:
            siblings[turn.parent].append(turn)
        yield from (turns for turns in siblings.values() if len(turns) > 1)


async def write_chats(
    store: ConversationStore, out: Path, *, votes: str, pairs: Path | None = None
) -> Counts:
    """Write the paths of all owners that end in a turn with such `votes`, as records, to `out`.

    Images go into the folder `images` beside it. `pairs` gets the preferences. The files are there
    when all has been written, and else as they were. Raises `StoreUnavailable` and `OSError`.
    """
    counts = Counts()
    with written(out) as records, written(pairs) if pairs else nullcontext() as preferences:
        async for chat in _chats(store):
            counts.conversations += 1
            files = _Files(store, chat, out.parent)
            await _write_records(chat, files, VOTES[votes], counts, records)
            if preferences:
                await _write_preferences(chat, files, counts, preferences)
    return counts


async def _write_records(
    chat: _Chat, files: _Files, votes: frozenset[Vote | None], counts: Counts, out: TextIO
) -> None:
    for turn in chat.turns:
        counts.turns += 1
        problem = _no_record(chat.path(turn), votes)
        if problem is None and not _put(out, (await files.record(turn)).to_line()):
            problem = NoRecord.BROKEN_TEXT
        if problem:
            counts.left_out[problem] += 1
        else:
            counts.records += 1


async def _write_preferences(chat: _Chat, files: _Files, counts: Counts, out: TextIO) -> None:
    for chosen, rejected in _preferences(chat, counts.no_pair):
        row = await files.preference(chosen, rejected)
        if _put(out, json.dumps(row, ensure_ascii=False)):
            counts.pairs += 1
        else:
            counts.no_pair[NoPair.BROKEN_TEXT] += 1


def _put(out: TextIO, line: str) -> bool:
    """Write a line; false when half of a character is in it, which no file and no model takes."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    out.write(f"{line}\n")
    return True


async def _chats(store: ConversationStore) -> AsyncIterator[_Chat]:
    for owner in await store.owners():
        for kept in reversed(await store.conversations(owner, limit=_EVERY)):
            yield _Chat(kept, await store.turns(kept.id, owner))


class _Files:
    """Makes the records of a chat, and the files of their images."""

    def __init__(self, store: ConversationStore, chat: _Chat, folder: Path) -> None:
        self._store = store
        self._chat = chat
        self._folder = folder

    async def record(self, turn: KeptTurn) -> Record:
        """The record of the path to a turn, its images named from the folder."""
        conversation = restored(self._chat.path(turn), self._chat.kept.skills)
        files = {handle: await self._file(ref) for handle, ref in conversation.images.items()}
        record = Record.of(conversation, files, id=turn.id)
        return record.model_copy(update={"source": _SOURCE})

    async def preference(self, chosen: KeptTurn, rejected: KeptTurn) -> dict[str, Any]:
        """The row of two turns with one request."""
        rows = [
            trl_row(rebased(await self.record(turn), self._folder, None))
            for turn in (chosen, rejected)
        ]
        roles = [message["role"] for message in rows[0]["messages"]]
        begin = len(roles) - roles[::-1].index("user")
        return {
            "prompt": rows[0]["messages"][:begin],
            "chosen": rows[0]["messages"][begin:],
            "rejected": rows[1]["messages"][begin:],
            "tools": rows[0]["tools"],
            "images": rows[0]["images"],
        }

    async def _file(self, ref: ImageRef) -> str:
        path = self._folder / "images" / image_name(ref)
        if not path.exists():
            _, data = await self._store.artifact(ref.sha256, self._chat.kept.owner)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return f"images/{path.name}"


def _no_record(path: Sequence[KeptTurn], votes: frozenset[Vote | None]) -> NoRecord | None:
    """Why the path is no record, if so. What was disliked is not learned with what was liked."""
    *before, turn = path
    disliked = any(earlier.vote in (Vote.DOWN, Vote.FLAG) for earlier in before)
    problems = {
        NoRecord.OTHER_VOTE: turn.vote not in votes,
        NoRecord.NOT_FINISHED: turn.state is not TurnState.FINISHED,
        NoRecord.NO_ANSWER: not restored([turn], ()).answer,
        NoRecord.UNFINISHED_BEFORE: not _all_finished(before),
        NoRecord.DISLIKED_BEFORE: votes == VOTES["up"] and disliked,
    }
    return next((problem for problem, holds in problems.items() if holds), None)


def _preferences(chat: _Chat, no_pair: Counter[str]) -> Iterator[tuple[KeptTurn, KeptTurn]]:
    """Two turns each of which the first is preferred; why others are none is counted."""
    for siblings in chat.beside():
        before = chat.path(siblings[0])[:-1]
        for (place, earlier), (other, later) in combinations(enumerate(siblings), 2):
            between = [turn for turn in siblings[place + 1 : other] if _all_finished([turn])]
            problem = _no_pair(earlier, later, before) or _undecided(earlier, later, between)
            if problem:
                no_pair[problem] += 1
            elif earlier.vote is Vote.UP:
                yield earlier, later
            else:
                yield later, earlier


def _no_pair(earlier: KeptTurn, later: KeptTurn, before: Sequence[KeptTurn]) -> NoPair | None:
    """Why two turns cannot be held against each other, if so."""
    two = (earlier, later)
    answered = _all_finished(two) and all(restored([turn], ()).answer for turn in two)
    problems = {
        # Which of two requests was put better is no preference between answers.
        NoPair.OTHER_REQUEST: not _begin(earlier) or _request(earlier) != _request(later),
        NoPair.NOT_ANSWERED: not answered,
        NoPair.UNFINISHED_BEFORE: not _all_finished(before),
        NoPair.SAME_ANSWER: _reply(earlier) == _reply(later),
        NoPair.FLAGGED: Vote.FLAG in (earlier.vote, later.vote),
    }
    return next((problem for problem, holds in problems.items() if holds), None)


def _undecided(earlier: KeptTurn, later: KeptTurn, between: Sequence[KeptTurn]) -> NoPair | None:
    """Why neither is preferred, if so. Votes decide; else an answer that was asked for anew."""
    votes = {earlier.vote, later.vote}
    if votes == {Vote.UP, Vote.DOWN}:
        return None
    if len(votes) == 1 and None not in votes:
        return NoPair.SAME_VOTE
    if earlier.vote is Vote.UP or later.vote is Vote.DOWN:
        return NoPair.VOTE_AGAINST_ORDER
    # The one that was asked for anew is the last one with this request that stood there.
    asked = _request(later)
    return NoPair.NOT_NEXT if any(_request(turn) == asked for turn in between) else None


def _all_finished(turns: Sequence[KeptTurn]) -> bool:
    return all(turn.state is TurnState.FINISHED for turn in turns)


def _begin(turn: KeptTurn) -> int:
    """Where the reply begins: behind the last request of the turn."""
    places = [n for n, said in enumerate(turn.messages) if isinstance(said, UserMessage)]
    return places[-1] + 1 if places else 0


def _request(turn: KeptTurn) -> tuple[Sequence[Message], Sequence[object]]:
    """What was asked, with what its handles stand for."""
    asked = turn.messages[: _begin(turn)]
    handles = [handle for said in asked if isinstance(said, UserMessage) for handle in _named(said)]
    return asked, [turn.images.get(handle) or turn.masks.get(handle) for handle in handles]


def _named(said: UserMessage) -> Sequence[str]:
    return (*said.images, *(said.marks.masks if said.marks else ()))


def _reply(turn: KeptTurn) -> Sequence[Message]:
    return turn.messages[_begin(turn) :]
